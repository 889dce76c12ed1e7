// SPDX-License-Identifier: Apache-2.0

// Package routers holds what docs/guide-access.md shows for chi, gin and echo: how
// each route of theirs is given a rule, and how what has none is refused.
package routers

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/httpaccess"
)

// Chi guards a chi router: With takes the middleware as it is. An empty Mux of the
// guard refuses everything.
func Chi(guard *httpaccess.Guard, chart http.Handler) http.Handler {
	r := chi.NewRouter()
	r.NotFound(guard.Mux().ServeHTTP)
	r.MethodNotAllowed(guard.Mux().ServeHTTP)
	r.With(guard.Require(access.Read, "patient", access.Treatment)).Method("GET", "/patients/{id}", chart)
	return r
}

// Gin turns a middleware into gin's.
func Gin(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			passed = true
			c.Request = req // its context has the scope
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort()
		}
	}
}

// GinEngine guards a gin engine.
func GinEngine(guard *httpaccess.Guard, chart http.Handler) http.Handler {
	e := gin.New()
	e.RedirectTrailingSlash = false // a redirect would answer for a path that has no rule
	e.NoRoute(gin.WrapH(guard.Mux()))
	e.GET("/patients/:id", Gin(guard.Require(access.Read, "patient", access.Treatment)), gin.WrapH(chart))
	return e
}

// Echo guards an echo instance: its own WrapMiddleware takes the middleware. A
// parameter at the end of an echo route takes the rest of the path, slashes and all,
// so that /patients/:id would serve /patients/1/notes: wholeSegments refuses that.
func Echo(guard *httpaccess.Guard, chart http.Handler) http.Handler {
	e := echo.New()
	unmapped := guard.Mux()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if errors.Is(err, echo.ErrNotFound) || errors.Is(err, echo.ErrMethodNotAllowed) {
			unmapped.ServeHTTP(c.Response(), c.Request())
			return
		}
		e.DefaultHTTPErrorHandler(err, c)
	}
	e.Use(wholeSegments)
	e.GET("/patients/:id", echo.WrapHandler(chart), echo.WrapMiddleware(guard.Require(access.Read, "patient", access.Treatment)))
	return e
}

// wholeSegments lets a parameter stand for one segment, as it does in other routers;
// "*" stands for the rest.
func wholeSegments(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		for i, name := range c.ParamNames() {
			if name != "*" && strings.Contains(c.ParamValues()[i], "/") {
				return echo.ErrNotFound
			}
		}
		return next(c)
	}
}
