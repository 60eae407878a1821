// What a page needs to check a proof where the browser gives no WebCrypto,
// which it withholds from pages loaded by plain HTTP. Slow, and public data only:
// nothing here guards a secret, so nothing is constant-time.

const mask = (bits) => (1n << BigInt(bits)) - 1n;

function root(n, k) { // integer k-th root by Newton's method
  let x = 1n << BigInt(Math.ceil(n.toString(2).length / k));
  for (;;) {
    const y = ((BigInt(k) - 1n) * x + n / x ** (BigInt(k) - 1n)) / BigInt(k);
    if (y >= x) return x;
    x = y;
  }
}

function primes(count) {
  const out = [];
  for (let n = 2; out.length < count; n++) if (out.every((p) => n % p)) out.push(n);
  return out.map(BigInt);
}

// fraction returns the first `bits` bits after the point of the k-th root of
// p: where the constants of SHA-2 come from (FIPS 180-4 §4.2.2).
const fraction = (p, k, bits) => root(p << BigInt(bits * k), k) & mask(bits);

function padded(data, block) { // FIPS 180-4 §5.1
  const length = Math.ceil((data.length + 1 + block / 8) / block) * block;
  const out = new Uint8Array(length);
  out.set(data);
  out[data.length] = 0x80;
  new DataView(out.buffer).setBigUint64(length - 8, BigInt(data.length) * 8n);
  return new DataView(out.buffer);
}

function sha2(bits, rounds, big0, big1, small0, small1) {
  const m = mask(bits), B = BigInt(bits), size = bits / 8;
  const k = primes(rounds).map((p) => fraction(p, 3, bits));
  const initial = primes(8).map((p) => fraction(p, 2, bits));
  const rotate = (x, n) => ((x >> BigInt(n)) | (x << (B - BigInt(n)))) & m;
  const big = (x, r) => rotate(x, r[0]) ^ rotate(x, r[1]) ^ rotate(x, r[2]);
  const small = (x, r) => rotate(x, r[0]) ^ rotate(x, r[1]) ^ (x >> BigInt(r[2]));
  return (data) => {
    const view = padded(data, size * 16);
    const read = (at) => (bits === 64 ? view.getBigUint64(at) : BigInt(view.getUint32(at)));
    let h = initial;
    for (let at = 0; at < view.byteLength; at += size * 16) {
      const w = [];
      for (let i = 0; i < 16; i++) w.push(read(at + i * size));
      for (let i = 16; i < rounds; i++) w.push((small(w[i - 2], small1) + w[i - 7] + small(w[i - 15], small0) + w[i - 16]) & m);
      let [a, b, c, d, e, f, g, z] = h;
      for (let i = 0; i < rounds; i++) {
        const t1 = z + big(e, big1) + ((e & f) ^ (~e & m & g)) + k[i] + w[i];
        const t2 = big(a, big0) + ((a & b) ^ (a & c) ^ (b & c));
        [z, g, f, e, d, c, b, a] = [g, f, e, (d + t1) & m, c, b, a, (t1 + t2) & m];
      }
      h = [a, b, c, d, e, f, g, z].map((x, i) => (x + h[i]) & m);
    }
    const out = new Uint8Array(size * 8);
    h.forEach((x, i) => out.set(bytesOf(x, size), i * size));
    return out;
  };
}

export const sha256 = sha2(32, 64, [2, 13, 22], [6, 11, 25], [7, 18, 3], [17, 19, 10]);
export const sha512 = sha2(64, 80, [28, 34, 39], [14, 18, 41], [1, 8, 7], [19, 61, 6]);

export function sha1(data) { // FIPS 180-4 §6.1.2
  const view = padded(data, 64);
  const rotate = (x, n) => (x << n) | (x >>> (32 - n));
  let h = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  for (let at = 0; at < view.byteLength; at += 64) {
    const w = [];
    for (let i = 0; i < 80; i++) w.push(i < 16 ? view.getUint32(at + i * 4) : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1));
    let [a, b, c, d, e] = h;
    for (let i = 0; i < 80; i++) {
      const f = i < 20 ? (b & c) | (~b & d) : i < 40 || i > 59 ? b ^ c ^ d : (b & c) | (b & d) | (c & d);
      const k = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6][Math.floor(i / 20)];
      [e, d, c, b, a] = [d, c, rotate(b, 30), a, (rotate(a, 5) + f + e + k + w[i]) | 0];
    }
    h = [a, b, c, d, e].map((x, i) => (x + h[i]) | 0);
  }
  const out = new DataView(new ArrayBuffer(20));
  h.forEach((x, i) => out.setUint32(i * 4, x));
  return new Uint8Array(out.buffer);
}

export function bytesOf(n, length) {
  const out = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--, n >>= 8n) out[i] = Number(n & 255n);
  return out;
}

export const numberOf = (bytes) => bytes.reduce((n, b) => (n << 8n) | BigInt(b), 0n);

function power(base, exponent, modulus) {
  let out = 1n;
  for (base %= modulus; exponent > 0n; exponent >>= 1n, base = (base * base) % modulus) {
    if (exponent & 1n) out = (out * base) % modulus;
  }
  return out;
}

// verifyRSA checks RSASSA-PKCS1-v1_5 with SHA-512 (RFC 8017 §8.2.2) by the
// key in a DER SubjectPublicKeyInfo.
export function verifyRSA(spki, signature, message) {
  const [modulus, exponent] = rsaKey(spki);
  const length = Math.ceil(modulus.toString(16).length / 2);
  const s = numberOf(signature);
  if (signature.length !== length || s >= modulus) return false;
  const prefix = [0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40];
  const tail = [0x00, ...prefix, ...sha512(message)];
  const want = [0x00, 0x01, ...new Array(length - 2 - tail.length).fill(0xff), ...tail];
  return power(s, exponent, modulus) === numberOf(want);
}

function rsaKey(spki) {
  let at = 0;
  const open = (tag) => { // returns the length of the DER element here
    if (spki[at++] !== tag) throw new Error("not an RSA public key");
    let n = spki[at++];
    if (n < 0x80) return n;
    let length = 0;
    for (n &= 0x7f; n > 0; n--) length = length * 256 + spki[at++];
    return length;
  };
  const integer = () => { const n = open(0x02); at += n; return numberOf(spki.subarray(at - n, at)); };
  open(0x30);
  const algorithm = open(0x30);
  at += algorithm;
  open(0x03);
  at++; // no unused bits
  open(0x30);
  return [integer(), integer()];
}

// Ed25519 (RFC 8032 §5.1), in extended coordinates.
const P = 2n ** 255n - 19n, L = 2n ** 252n + 27742317777372353535851937790883648493n;
const mod = (x) => ((x % P) + P) % P;
const D = mod(-121665n * power(121666n, P - 2n, P));

function point(bytes) { // §5.1.3
  const le = numberOf(Uint8Array.from(bytes).reverse());
  const y = le & mask(255), sign = le >> 255n;
  if (y >= P) return null;
  const u = mod(y * y - 1n), v = mod(D * y * y + 1n);
  let x = mod(u * v ** 3n * power(mod(u * v ** 7n), (P - 5n) / 8n, P));
  if (mod(v * x * x) !== u) x = mod(x * power(2n, (P - 1n) / 4n, P));
  if (mod(v * x * x) !== u || (x === 0n && sign)) return null;
  if ((x & 1n) !== sign) x = P - x;
  return [x, y, 1n, mod(x * y)];
}

function add([x1, y1, z1, t1], [x2, y2, z2, t2]) { // §5.1.4
  const a = mod((y1 - x1) * (y2 - x2)), b = mod((y1 + x1) * (y2 + x2));
  const c = mod(2n * t1 * t2 * D), d = mod(2n * z1 * z2);
  const [e, f, g, h] = [b - a, d - c, d + c, b + a];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

function times(n, p) {
  let out = [0n, 1n, 1n, 0n];
  for (; n > 0n; n >>= 1n, p = add(p, p)) if (n & 1n) out = add(out, p);
  return out;
}

const base = () => point(bytesOf(mod(4n * power(5n, P - 2n, P)), 32).reverse());

export function verifyEd25519(key, signature, message) { // §5.1.7
  const a = point(key), r = point(signature.subarray(0, 32));
  const s = numberOf(Uint8Array.from(signature.subarray(32)).reverse());
  if (signature.length !== 64 || !a || !r || s >= L) return false;
  const k = numberOf(sha512(new Uint8Array([...signature.subarray(0, 32), ...key, ...message])).reverse()) % L;
  const left = times(s, base()), right = add(r, times(k, a));
  return mod(left[0] * right[2]) === mod(right[0] * left[2]) && mod(left[1] * right[2]) === mod(right[1] * left[2]);
}
