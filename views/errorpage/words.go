// Package errorpage is what a person sees instead of a page that cannot be shown.
package errorpage

import (
	"net/http"

	"github.com/agentfield/agentfield/views/components"
)

// Words are what to tell a person about a status of HTTP, when the error itself has no better words. Retry is the address of the
// page, given where trying again may help.
func Words(status int, path string) components.Trouble {
	switch status {
	case http.StatusNotFound:
		return components.Trouble{Title: "There is nothing at this address", Text: "The id may be mistyped, or what it named is no longer kept. Try the search box above with any part of the beginning."}
	case http.StatusForbidden:
		return components.Trouble{Title: "This is not allowed", Text: "The request came from another site, or your key does not have the right it needs. Nothing was changed."}
	case http.StatusConflict:
		return components.Trouble{Title: "It has changed in the meantime", Text: "What you asked for no longer fits its status. Nothing was changed by you; look at it as it is now."}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return components.Trouble{Title: "The server is busy", Text: "Work that was accepted goes on. Try again in a moment.", Retry: path}
	}
	if status >= http.StatusInternalServerError {
		return components.Trouble{Title: "The server could not show this page", Text: "Executions go on meanwhile. If it stays like this, the server's log knows more under this id.", Retry: path}
	}
	return components.Trouble{Title: "This request cannot be answered", Text: "Something in the address or the form does not fit. Nothing was changed."}
}
