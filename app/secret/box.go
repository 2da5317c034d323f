// Package secret seals small values before they are stored: webhook secrets, header values, credentials. Its invariant: a sealed value
// opens only at the place it was sealed for, so that a ciphertext copied into another row, column or table is worthless.
package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length in bytes of the server's key.
const KeySize = 32

var (
	// ErrKeySize says that a key is not 32 bytes long.
	ErrKeySize = errors.New("the secret key must have 32 bytes")
	// ErrOtherKey says that a value was sealed with a key that this server does not have.
	ErrOtherKey = errors.New("the stored value was sealed with another secret key: start the server with the key it had then")
	// ErrDamaged says that a value was changed, cut short, or moved to another place than it was sealed for.
	ErrDamaged = errors.New("the stored value is damaged or belongs to another row")
)

// A sealed value is: format (1 byte), key id (4), nonce (12), ciphertext with tag. The key id tells whether the key was exchanged,
// which an authentication failure alone could not.
const (
	formatAESGCM  = 1
	keyIDSize     = 4
	nonceSize     = 12
	headerSize    = 1 + keyIDSize + nonceSize
	purposeSeal   = "seal"
	purposeKeyID  = "key id"
	derivePrefix  = "agentfield/"
	passwordLabel = "agentfield/secret key"
)

// Place is where a sealed value is stored. Table and column are names of ours without a colon.
type Place struct {
	Table, Column, Row string
}

func (p Place) aad() []byte { return []byte(p.Table + ":" + p.Column + ":" + p.Row) }

// Box seals and opens with one key. It is safe for concurrent use.
type Box struct {
	master []byte
	keyID  []byte
	aead   cipher.AEAD
}

// NewBox takes a key of 32 random bytes; LoadKey finds it. The key itself encrypts nothing: every use has a key derived from it.
func NewBox(key []byte) (*Box, error) {
	if len(key) != KeySize {
		return nil, ErrKeySize
	}
	b := &Box{master: bytes.Clone(key)}
	b.keyID = b.Derive(purposeKeyID)[:keyIDSize]
	block, err := aes.NewCipher(b.Derive(purposeSeal))
	if err != nil {
		return nil, fmt.Errorf("prepare the cipher: %w", err)
	}
	if b.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("prepare the cipher: %w", err)
	}
	return b, nil
}

// Derive returns 32 bytes that depend on the key and the purpose and tell nothing about either (HKDF-SHA256, RFC 5869).
func (b *Box) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, b.master, nil, derivePrefix+purpose, KeySize)
	if err != nil {
		panic("HKDF refuses 32 bytes: " + err.Error()) // only asking for more than 255 hashes can fail
	}
	return key
}

// Seal encrypts plain for one place.
func (b *Box) Seal(place Place, plain []byte) ([]byte, error) {
	sealed := make([]byte, headerSize, headerSize+len(plain)+b.aead.Overhead())
	sealed[0] = formatAESGCM
	copy(sealed[1:], b.keyID)
	nonce := sealed[1+keyIDSize : headerSize]
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("draw a nonce: %w", err)
	}
	return b.aead.Seal(sealed, nonce, plain, place.aad()), nil
}

// Open returns what was sealed for the place; ErrOtherKey or ErrDamaged when it cannot.
func (b *Box) Open(place Place, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+b.aead.Overhead() || sealed[0] != formatAESGCM {
		return nil, ErrDamaged
	}
	if !bytes.Equal(sealed[1:1+keyIDSize], b.keyID) {
		return nil, ErrOtherKey
	}
	plain, err := b.aead.Open(nil, sealed[1+keyIDSize:headerSize], sealed[headerSize:], place.aad())
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}
