"""Opens an aes128gcm Web Push body (RFC 8291): private key, auth secret, body, all base64url. Prints the plaintext."""
import base64, sys
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

key, auth, body = (base64.urlsafe_b64decode(a + "=" * (-len(a) % 4)) for a in sys.argv[1:4])
private = ec.derive_private_key(int.from_bytes(key, "big"), ec.SECP256R1())
salt, size, sender, record = body[:16], int.from_bytes(body[16:20], "big"), body[21:86], body[86:]
assert body[20] == 65 and len(record) <= size
secret = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
own = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
ikm = HKDF(SHA256(), 32, auth, b"WebPush: info\0" + own + sender).derive(secret)
cek = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(ikm)
nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(ikm)
plain = AESGCM(cek).decrypt(nonce, record, None).rstrip(b"\0")
assert plain[-1] == 2
sys.stdout.write(plain[:-1].decode())
