// Checks a proof of the name ledger in the browser. It is the same walk as
// Proof.Verify in package ledger, whose comments are its specification.

import * as plain from "./plaincrypto.js";

const subtle = globalThis.crypto?.subtle; // undefined on pages loaded by plain HTTP
export const native = subtle !== undefined;

const utf8 = (s) => new TextEncoder().encode(s);
const base64 = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const join = (...parts) => new Uint8Array(parts.flatMap((p) => Array.from(p)));
const u64 = (n) => plain.bytesOf(BigInt(n), 8);
const same = (a, b) => hex(a) === hex(b);

const digest = async (name, own, data) => (native ? new Uint8Array(await subtle.digest(name, data)) : own(data));
export const sha256 = (data) => digest("SHA-256", plain.sha256, data);
export const sha1 = (data) => digest("SHA-1", plain.sha1, data);

export async function ed25519(key, signature, message) {
  if (native) {
    try {
      const k = await subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
      return await subtle.verify("Ed25519", k, signature, message);
    } catch { /* a browser without Ed25519 */ }
  }
  return plain.verifyEd25519(key, signature, message);
}

export async function rsa(spki, signature, message) {
  if (!native) return plain.verifyRSA(spki, signature, message);
  const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" };
  const k = await subtle.importKey("spki", spki, algorithm, false, ["verify"]);
  return subtle.verify(algorithm, k, signature, message);
}

function need(ok, what) {
  if (!ok) throw new Error(what);
}

// openCheckpoint checks the log's signature on a note and returns its fields.
async function openCheckpoint(note, vkey) {
  const cut = note.lastIndexOf("\n\n");
  need(cut > 0, "the checkpoint is not a signed note");
  const text = note.slice(0, cut + 1);
  const [, name, , encoded] = vkey.match(/^([^+]+)\+([0-9a-f]{8})\+(.+)$/) ?? [];
  need(encoded, "the log's key is not a verifier key");
  const key = base64(encoded);
  need(key[0] === 1 && key.length === 33, "the log's key is not Ed25519");
  const id = (await sha256(join(utf8(name + "\n"), key))).subarray(0, 4);
  let good = false;
  for (const line of note.slice(cut + 2).split("\n")) {
    const [dash, signer, body] = line.split(" ");
    if (dash !== "—" || signer !== name || !body) continue;
    const signature = base64(body);
    if (same(signature.subarray(0, 4), id)) good ||= await ed25519(key.subarray(1), signature.subarray(4), utf8(text));
  }
  need(good, "the checkpoint is not signed by the log");
  const [origin, size, root] = text.split("\n");
  need(origin === name, "the checkpoint is of another log");
  return { origin, size: Number(size), root: base64(root) };
}

// included checks an RFC 9162 §2.1.3.2 inclusion proof.
async function included(cp, { index, data, inclusion }, what) {
  const missing = `${what} is not in the log`;
  need(index >= 0 && index < cp.size, missing);
  let hash = await sha256(join([0], base64(data)));
  let fn = BigInt(index), sn = BigInt(cp.size) - 1n;
  for (const sibling of inclusion.map(base64)) {
    need(sn > 0n, missing);
    if (fn & 1n || fn === sn) {
      hash = await sha256(join([1], sibling, hash));
      while (!(fn & 1n) && fn !== 0n) { fn >>= 1n; sn >>= 1n; }
    } else {
      hash = await sha256(join([1], hash, sibling));
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  need(sn === 0n && same(hash, cp.root), missing);
}

// reader takes fields off an encoded entry.
function reader(bytes) {
  let at = 0;
  const take = (n) => {
    need(at + n <= bytes.length, "an entry is cut short");
    return bytes.subarray((at += n) - n, at);
  };
  const u8 = () => take(1)[0];
  const number = () => plain.numberOf(take(8));
  const text = () => new TextDecoder("utf-8", { fatal: true }).decode(take(u8()));
  return { take, u8, number, text, done: () => need(at === bytes.length, "an entry is too long") };
}

export function parseEntry(bytes) {
  const r = reader(bytes), e = { kind: r.u8(), time: new Date(Number(r.number())) };
  if (e.kind === 1) {
    const flags = r.u8();
    e.name = r.text();
    e.key = r.text() || e.name;
    e.address = hex(r.take(20));
    if (flags & 4) e.owner = hex(r.take(20));
    e.spkiHash = r.take(32);
    e.signatureHash = r.take(32);
  } else if (e.kind === 2) {
    e.size = Number(r.number());
    e.count = Number(r.number());
    e.root = r.take(32);
  } else if (e.kind === 3) {
    e.key = r.text();
    e.reason = r.text();
  } else {
    throw new Error("an entry is of a kind that answers no question");
  }
  r.done();
  return e;
}

const bit = (key, i) => (key[i >> 3] >> (7 - (i & 7))) & 1;
const mapLeaf = (key, index, entryHash) => sha256(join([1], key, u64(index), entryHash));

async function climb(root, key, siblings, hash) {
  need(siblings.length <= 128, "the map path is too long");
  for (let i = siblings.length - 1; i >= 0; i--) {
    hash = await sha256(bit(key, i) ? join([2], siblings[i], hash) : join([2], hash, siblings[i]));
  }
  need(same(hash, root), "the map path leads to another root");
}

async function checkMap(proof, key, root) {
  const siblings = proof.siblings.map((s) => (s === "" ? new Uint8Array(32) : base64(s))), other = proof.other;
  if (proof.entry) {
    need(!other, "the map path ends at another key");
    const entryHash = await sha256(join([0], base64(proof.entry.data)));
    return climb(root, key, siblings, await mapLeaf(key, proof.entry.index, entryHash));
  }
  if (!other) return climb(root, key, siblings, new Uint8Array(32));
  const otherKey = base64(other.key);
  need(!same(otherKey, key), "the name is in the map after all");
  for (let i = 0; i < siblings.length; i++) need(bit(otherKey, i) === bit(key, i), "the map path belongs to another key");
  return climb(root, key, siblings, await mapLeaf(otherKey, other.index, base64(other.entry_hash)));
}

async function checkEvidence(entry, evidence) {
  const spki = base64(evidence.public_key), signature = base64(evidence.signature);
  need(same(await sha256(spki), entry.spkiHash) && same(await sha256(signature), entry.signatureHash), "the evidence is not that of the entry");
  need(hex(await sha1(spki)) === entry.address, "the key is not that of the account");
  need(await rsa(spki, signature, utf8(entry.name)), "the account did not sign the name");
}

// check walks through a proof about a name's lookup key. It calls report after
// every step that holds and throws at the first that does not. The result is the
// entry, or null when the name is proven free.
export async function check(proof, name, vkey, report) {
  need(proof.version === 1 && proof.name === name, "the proof is about something else");
  const cp = await openCheckpoint(proof.checkpoint, vkey);
  report("checkpoint", `The log signed its state at ${cp.size} entries.`);
  need(proof.map_root.index === cp.size - 1, "the last entry is missing");
  await included(cp, proof.map_root, "the map root");
  const root = parseEntry(base64(proof.map_root.data));
  need(root.kind === 2 && root.size === proof.map_root.index, "the last entry is not a map root");
  report("map_root", `The state commits to the map of all ${root.count} names and accounts.`);
  await checkMap(proof, await sha256(utf8("jns/v1/name\0" + name)), root.root);
  if (!proof.entry) {
    report("map", "The map holds nothing under this name.");
    return null;
  }
  report("map", "The map points to one entry for this name.");
  await included(cp, proof.entry, "the entry");
  const entry = parseEntry(base64(proof.entry.data));
  need(entry.key === name && (entry.kind === 1 || entry.kind === 3), "the entry is about something else");
  report("entry", `That entry is number ${proof.entry.index} of the log.`);
  if (entry.kind === 3) return entry;
  if (proof.evidence) {
    await checkEvidence(entry, proof.evidence);
    report("evidence", "The account itself signed the registration.");
  }
  return entry;
}
