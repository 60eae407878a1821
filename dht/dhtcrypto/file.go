package dhtcrypto

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxFile bounds what is read as a key or a chain.
const maxFile = 256 << 10

// Save writes the identity as path+".pem", the key, encrypted when a password
// is given and readable by its owner only, and path+".crt", the PEM chain
// (§6.4). It refuses to overwrite either file.
func (id Identity) Save(path string, password []byte) error {
	key, err := id.Key.PEM(password)
	if err != nil {
		return err
	}
	if err := create(path+".pem", key, 0o600); err != nil {
		return err
	}
	if err := create(path+".crt", id.Chain.PEM(), 0o644); err != nil {
		return errors.Join(err, os.Remove(path+".pem"))
	}
	return nil
}

// create writes a file that must not exist yet and syncs it.
func create(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// Load reads what Save or upstream's tools wrote under path.
func Load(path string, password []byte) (Identity, error) {
	return LoadFiles(path+".crt", path+".pem", password)
}

// LoadFiles reads a chain and a key, PEM or DER, and checks that they belong
// together. A missing or wrong password is ErrPassword.
func LoadFiles(certFile, keyFile string, password []byte) (Identity, error) {
	b, err := readFile(keyFile)
	if err != nil {
		return Identity{}, err
	}
	key, err := ParsePrivateKey(b, password)
	if err != nil {
		return Identity{}, fmt.Errorf("read key %s: %w", keyFile, err)
	}
	if b, err = readFile(certFile); err != nil {
		return Identity{}, err
	}
	chain, err := ParseChain(b)
	if err != nil {
		return Identity{}, fmt.Errorf("read certificate %s: %w", certFile, err)
	}
	if !chain.Leaf().Key.Equal(key.Public()) {
		return Identity{}, fmt.Errorf("key %s and certificate %s do not belong together: %w", keyFile, certFile, ErrMalformed)
	}
	return Identity{Key: key, Chain: chain}, nil
}

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("read %s: %d bytes: %w", name, info.Size(), ErrMalformed)
	}
	return os.ReadFile(name)
}
