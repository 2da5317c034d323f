package execution

import (
	"encoding/base32"

	"github.com/google/uuid"
)

// crockford keeps the order of the bytes it encodes and is what ULIDs are written in, here in lower case.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID is the prefix and 26 characters: a UUIDv7, so ids sort by the time they were made.
func newID(prefix string) string {
	id := uuid.Must(uuid.NewV7())
	return prefix + crockford.EncodeToString(id[:])
}

// NewID makes the id of an execution to be submitted.
func NewID() string { return newID("exec_") }
