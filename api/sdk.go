package api

import (
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/sdk/python"
)

// sdkArchive is packed when it is first asked for.
type sdkArchive struct {
	once  sync.Once
	bytes []byte
	err   error
}

// pythonSDK is what `pip install http://this-server/sdk/python/agentfield.tar.gz` downloads.
func (s *Server) pythonSDK(c *fiber.Ctx) error {
	s.python.once.Do(func() { s.python.bytes, s.python.err = python.Archive() })
	if s.python.err != nil {
		return s.python.err
	}
	c.Set(fiber.HeaderContentType, "application/gzip")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="agentfield-`+python.Version+`.tar.gz"`)
	return c.Send(s.python.bytes)
}
