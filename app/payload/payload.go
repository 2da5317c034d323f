// Package payload stores bodies: as they came when small, compressed when that pays. Its invariant: the bytes that come out are the
// bytes that went in.
package payload

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// The encodings of a stored body.
const (
	Identity int16 = 0
	Zstd     int16 = 1
)

const (
	worthTrying = 4 << 10   // below this compression gains nothing
	maxDecoded  = 256 << 20 // no stored body is larger; a damaged one must not take the memory
)

var errUnknownEncoding = errors.New("the stored body has an encoding this release does not know")

// Codec compresses and restores. It is safe for concurrent use; make one per process.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// NewCodec returns a codec that needs little memory while idle.
func NewCodec() (*Codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("prepare compression: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecoded), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("prepare decompression: %w", err)
	}
	return &Codec{enc: enc, dec: dec}, nil
}

// Encode compresses a body of 4 KiB or more if that saves a tenth.
func (c *Codec) Encode(body []byte) (encoding int16, stored []byte) {
	if len(body) < worthTrying {
		return Identity, body
	}
	small := c.enc.EncodeAll(body, make([]byte, 0, len(body)/4))
	if len(small) > len(body)*9/10 {
		return Identity, body
	}
	return Zstd, small
}

// Decode restores what Encode stored.
func (c *Codec) Decode(encoding int16, stored []byte) ([]byte, error) {
	switch encoding {
	case Identity:
		return stored, nil
	case Zstd:
		body, err := c.dec.DecodeAll(stored, nil)
		if err != nil {
			return nil, fmt.Errorf("decompress a stored body: %w", err)
		}
		return body, nil
	}
	return nil, fmt.Errorf("encoding %d: %w", encoding, errUnknownEncoding)
}
