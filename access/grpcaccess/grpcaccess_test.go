// SPDX-License-Identifier: Apache-2.0

package grpcaccess_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/grpcaccess"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

const secret = "Jane Roe"

// world is a server with a guard, and a client of it.
type world struct {
	t      *testing.T
	guard  *grpcaccess.Guard
	trail  *audittest.Trail
	logs   *observer.ObservedLogs
	client *grpc.ClientConn
	cfg    grpcaccess.Config

	mu     sync.Mutex
	who    func() (access.Principal, error) // of every call
	unary  func(ctx context.Context, in string) (string, error)
	stream func(ss grpc.ServerStream) error
	served int
	scope  *access.Scope
}

func setup(t *testing.T, change ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, trail: audittest.New(t)}
	w.as("nurse")
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs = logs
	read := grpcaccess.Rule{Action: access.Read, Resource: "patient", Purposes: []access.Purpose{access.Treatment, access.Payment}}
	w.cfg = grpcaccess.Config{Authorizer: rbac.Starter(), Audit: w.trail, Log: zap.New(core),
		Methods: map[string]grpcaccess.Rule{
			"/clinic.Charts/Get": read, "/clinic.Charts/Watch": read,
			"/clinic.Charts/Bills": {Action: access.Search, Resource: "encounter", Purposes: []access.Purpose{access.Payment}},
			"/clinic.Charts/Alive": {Public: true},
		},
		Authenticate: func(context.Context) (access.Principal, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.who()
		},
	}
	for _, c := range change {
		c(w)
	}
	guard, err := grpcaccess.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.guard = guard
	srv := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary()), grpc.StreamInterceptor(guard.Stream()))
	unary := func(name string) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, dec func(any) error, icpt grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			return icpt(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/clinic.Charts/" + name}, func(ctx context.Context, req any) (any, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.served++
				s, err := access.From(ctx)
				w.scope = s
				if w.unary != nil {
					out, err := w.unary(ctx, req.(*wrapperspb.StringValue).Value)
					return wrapperspb.String(out), err
				}
				if err != nil {
					return wrapperspb.String("nobody"), nil
				}
				return wrapperspb.String(string(s.Purpose())), nil
			})
		}}
	}
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "clinic.Charts", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{unary("Get"), unary("Bills"), unary("Alive"), unary("Delete")},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, ClientStreams: true, Handler: func(_ any, ss grpc.ServerStream) error { return w.stream(ss) }}},
	}, w)
	lis := bufconn.Listen(1 << 16)
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	w.client, err = grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.client.Close() })
	return w
}

// as sets who calls from now on.
func (w *world) as(role string) {
	p := accesstest.Principal(accesstest.Tenant, role)
	w.set(func() (access.Principal, error) { return p, nil })
}

func (w *world) set(f func() (access.Principal, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.who = f
}

func (w *world) call(method string) (string, error) {
	out := new(wrapperspb.StringValue)
	err := w.client.Invoke(w.t.Context(), method, wrapperspb.String(secret), out)
	return out.Value, err
}

// answer is all that a caller sees of an error, but for the decision's ID.
func answer(err error) string {
	s := status.Convert(err)
	out := fmt.Sprint(s.Code(), " ", s.Message())
	for _, d := range s.Details() {
		info := d.(*errdetails.ErrorInfo)
		if id, ok := info.Metadata["decision"]; ok && access.CheckDecisionID(id) == nil {
			info.Metadata["decision"] = "ID"
		}
		out += fmt.Sprintf(" %s %s %v", info.Domain, info.Reason, info.Metadata)
	}
	return out
}

const denied = "PermissionDenied denied part164 DENIED map[decision:ID]"

func TestTheMethodSaysThePurpose(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, tt := range []struct{ role, method, want string }{
		{"nurse", "/clinic.Charts/Get", "TREAT"},
		{"billing", "/clinic.Charts/Get", "HPAYMT"},
		{"billing", "/clinic.Charts/Bills", "HPAYMT"},
		{"nurse", "/clinic.Charts/Bills", ""},
		{"admin", "/clinic.Charts/Get", ""},
		{"nurse", "/clinic.Charts/Delete", ""}, // served, and not mapped
		{"nurse", "/clinic.Charts/Alive", "nobody"},
	} {
		w.as(tt.role)
		w.trail.Reset()
		got, err := w.call(tt.method)
		if tt.want != "" {
			if err != nil || got != tt.want {
				t.Errorf("%s %s: %q, %v, want %q", tt.role, tt.method, got, err, tt.want)
			}
			continue
		}
		events := w.trail.Events()
		if answer(err) != denied || len(events) != 1 || events[0].Type != audit.Denied || events[0].Actor.ID == "" {
			t.Errorf("%s %s: %s, recorded %+v", tt.role, tt.method, answer(err), events)
			continue
		}
		info := status.Convert(err).Details()[0].(*errdetails.ErrorInfo)
		if info.Metadata["decision"] != events[0].Decision {
			t.Errorf("the decision is %s, recorded %s", info.Metadata["decision"], events[0].Decision)
		}
	}
	w.as("nurse")
	if _, err := w.call("/clinic.Charts/Get"); err != nil || w.scope == nil || !w.scope.Ended() {
		t.Errorf("%v; the scope outlives the call", err)
	}
}

// The server ends the context of a call, too: here it goes on.
func TestScopeEndsWithTheHandler(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, end := range map[string]func(){"returns": func() {}, "panics": func() { panic("x") }} {
		var scope *access.Scope
		w.guard.Unary()(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/clinic.Charts/Get"}, func(ctx context.Context, _ any) (any, error) {
			scope, _ = access.From(ctx)
			end()
			return nil, nil
		})
		if scope == nil || !scope.Ended() {
			t.Errorf("the scope outlives a handler that %s", name)
		}
	}
}

// A name that a lenient server would route, asked of the interceptor itself.
func TestNamesThatAreNotMapped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, name := range []string{"", "clinic.Charts/Get", "//clinic.Charts/Get", "/clinic.Charts/Get/", "/clinic.charts/get", "/clinic.Charts/Get ",
		"/clinic.Charts/G%65t", "/clinic.Charts/../Charts/Get", "clinic.Charts/Alive", strings.Repeat("/x", 1<<16)} {
		served := false
		_, err := w.guard.Unary()(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: name}, func(context.Context, any) (any, error) { served = true; return nil, nil })
		if answer(err) != denied || served {
			t.Errorf("%.30q: %s, served %v", name, answer(err), served)
		}
	}
	for _, e := range w.logs.All() {
		if strings.Contains(fmt.Sprint(e.ContextMap()), "lenient") || strings.Contains(fmt.Sprint(e.ContextMap()), "/x/x") {
			t.Errorf("the log has the caller's text: %v", e.ContextMap())
		}
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const signIn = "Unauthenticated sign in first part164 SIGNIN map[]"
	for name, f := range map[string]func() (access.Principal, error){
		"nobody":        func() (access.Principal, error) { return access.Principal{}, grpcaccess.ErrNobody },
		"an error":      func() (access.Principal, error) { return accesstest.Principal("t-1", "nurse"), errors.New(secret) },
		"a bad one":     func() (access.Principal, error) { return access.Principal{ID: "jane@example.org"}, nil },
		"the zero one":  func() (access.Principal, error) { return access.Principal{}, nil },
		"machine's own": func() (access.Principal, error) { return access.Principal{}, machine.ErrRefused },
	} {
		w.set(f)
		for _, m := range []string{"/clinic.Charts/Get", "/clinic.Charts/Delete"} {
			if _, err := w.call(m); answer(err) != signIn {
				t.Errorf("%s, %s: %s", name, m, answer(err))
			}
		}
	}
	if w.served != 0 {
		t.Errorf("served %d", w.served)
	}
}

// Every refusal is the same to the caller, and a handler's own errors quote nothing.
func TestWhatACallerSees(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef0123456789abcdef"
	const internal, unavailable = "Internal internal error", "Unavailable this cannot be done at the moment part164 UNAVAILABLE map[]"
	for name, tt := range map[string]struct {
		handler func(w *world, ctx context.Context) error
		want    string
	}{
		"no record": {func(w *world, ctx context.Context) error { return w.guard.Refuse(ctx, nil) }, denied},
		"storage denied": {func(w *world, ctx context.Context) error {
			return w.guard.Refuse(ctx, &access.DeniedError{Decision: id})
		}, denied},
		"storage denied, as is": {func(*world, context.Context) error {
			return fmt.Errorf("storage: %w", &access.DeniedError{Decision: id})
		}, denied},
		"an odd decision": {func(w *world, ctx context.Context) error {
			return w.guard.Refuse(ctx, &access.DeniedError{Decision: secret})
		}, denied},
		"not recorded": {func(*world, context.Context) error {
			return errors.Join(&access.DeniedError{Decision: id}, audit.ErrUnavailable)
		}, unavailable},
		"an error":              {func(*world, context.Context) error { return errors.New(secret) }, internal},
		"a panic":               {func(*world, context.Context) error { panic(secret) }, internal},
		"a panic with an error": {func(*world, context.Context) error { panic(errors.New(secret)) }, internal},
		"a status":              {func(*world, context.Context) error { return status.Error(codes.NotFound, "no such page") }, "NotFound no such page"},
		"a status in an error": {func(*world, context.Context) error {
			return fmt.Errorf("%s: %w", secret, status.Error(codes.NotFound, "x"))
		}, internal},
		"a context that is over": {func(*world, context.Context) error { return fmt.Errorf("%s: %w", secret, context.Canceled) }, "Canceled canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.unary = func(ctx context.Context, _ string) (string, error) { return "", tt.handler(w, ctx) }
			w.stream = func(ss grpc.ServerStream) error { return tt.handler(w, ss.Context()) }
			_, err := w.call("/clinic.Charts/Get")
			if answer(err) != tt.want {
				t.Errorf("unary: %s, want %s", answer(err), tt.want)
			}
			ss, err := w.client.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/clinic.Charts/Watch")
			if err == nil {
				err = ss.RecvMsg(new(wrapperspb.StringValue))
			}
			if answer(err) != tt.want {
				t.Errorf("stream: %s, want %s", answer(err), tt.want)
			}
			for _, e := range w.logs.All() {
				if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), "Roe") {
					t.Errorf("the log has %s %v", e.Message, e.ContextMap())
				}
			}
		})
	}
}

func TestNothingIsAnsweredThatIsNotRecorded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.as("admin")
	w.trail.Fail(errors.New("disk full"))
	if _, err := w.call("/clinic.Charts/Get"); status.Code(err) != codes.Unavailable || w.served != 0 {
		t.Errorf("%v, served %d", err, w.served)
	}
	broken := accesstest.Allow()
	broken.Fail(errors.New(secret))
	w = setup(t, func(w *world) { w.cfg.Authorizer = broken })
	if _, err := w.call("/clinic.Charts/Get"); answer(err) != denied || w.served != 0 || len(broken.Calls()) != 1 {
		t.Errorf("%s, served %d, asked %d times", answer(err), w.served, len(broken.Calls()))
	}
}

// A stream ends with the first message after its caller's end.
func TestAStreamOfSomebodyWhoWasRevoked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		revoke func(w *world)
		want   codes.Code
	}{
		"who is nobody now": {func(w *world) {
			w.set(func() (access.Principal, error) { return access.Principal{}, grpcaccess.ErrNobody })
		}, codes.Unauthenticated},
		"who is somebody else": {func(w *world) { w.as("physician") }, codes.Unauthenticated},
		"who has other roles": {func(w *world) {
			p := accesstest.Principal(accesstest.Tenant, "nurse")
			p.Roles = []string{"admin"}
			w.set(func() (access.Principal, error) { return p, nil })
		}, codes.PermissionDenied},
	} {
		for _, direction := range []string{"sends", "receives"} {
			t.Run(name+" "+direction, func(t *testing.T) {
				t.Parallel()
				w := setup(t)
				var after []error
				done := make(chan struct{})
				w.stream = func(ss grpc.ServerStream) error {
					defer close(done)
					in := new(wrapperspb.StringValue)
					if err := ss.RecvMsg(in); err != nil {
						return err
					}
					if err := ss.SendMsg(wrapperspb.String("first")); err != nil {
						return err
					}
					scope, _ := access.From(ss.Context())
					if direction == "receives" {
						after = append(after, ss.RecvMsg(in))
					} else {
						w.revokeNow(tt.revoke)
					}
					for range 2 { // a handler that does not mind
						after = append(after, ss.SendMsg(wrapperspb.String(secret)))
					}
					if !scope.Ended() {
						after = append(after, nil)
					}
					return nil
				}
				ss, err := w.client.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/clinic.Charts/Watch")
				if err != nil {
					t.Fatal(err)
				}
				out := new(wrapperspb.StringValue)
				if err := errors.Join(ss.SendMsg(wrapperspb.String("hello")), ss.RecvMsg(out)); err != nil || out.Value != "first" {
					t.Fatalf("%q, %v", out.Value, err)
				}
				if direction == "receives" {
					w.revokeNow(tt.revoke)
					if err := ss.SendMsg(wrapperspb.String("more")); err != nil && err != io.EOF {
						t.Fatal(err)
					}
				}
				if err := ss.RecvMsg(out); status.Code(err) != tt.want {
					t.Errorf("the caller got %q, %v, want %s", out.Value, err, tt.want)
				}
				<-done
				for i, err := range after {
					if err == nil {
						t.Errorf("message %d went through, or the scope lives on", i)
					}
				}
			})
		}
	}
}

func (w *world) revokeNow(f func(*world)) { f(w) }

func TestRecheckInterval(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	asked := 0
	w := setup(t, func(w *world) {
		w.cfg.Recheck, w.cfg.Now = time.Minute, func() time.Time { return now }
		w.cfg.Authenticate = func(context.Context) (access.Principal, error) {
			asked++
			return accesstest.Principal(accesstest.Tenant, "nurse"), nil
		}
	})
	var counts []int
	w.stream = func(ss grpc.ServerStream) error {
		for _, step := range []time.Duration{0, 59 * time.Second, time.Second, time.Second, -time.Hour, time.Minute - 1, 1} { // the clock is set back
			now = now.Add(step)
			if err := ss.SendMsg(wrapperspb.String("x")); err != nil {
				return err
			}
			counts = append(counts, asked)
		}
		return nil
	}
	ss, err := w.client.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/clinic.Charts/Watch")
	for err == nil {
		err = ss.RecvMsg(new(wrapperspb.StringValue))
	}
	if err != io.EOF || fmt.Sprint(counts) != "[1 1 2 2 3 3 4]" {
		t.Errorf("%v, authenticated %v times by then, want [1 1 2 2 3 3 4]", err, counts)
	}
}

func TestAnEarlierInterceptorsPrincipal(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := w.cfg
	cfg.Authenticate = nil
	g, err := grpcaccess.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(g *grpcaccess.Guard, ctx context.Context) error {
		_, err := g.Unary()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/clinic.Charts/Get"}, func(ctx context.Context, _ any) (any, error) {
			_, err := access.From(ctx)
			return nil, err
		})
		return err
	}
	if err := ask(g, accesstest.As(t, t.Context(), "nurse", "")); err != nil {
		t.Error(err)
	}
	if err := ask(g, t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
	if err := ask(w.guard, accesstest.As(t, t.Context(), "nurse", "")); status.Code(err) != codes.Unauthenticated {
		t.Errorf("somebody beside credentials: %v", err)
	}
}

// The offer depends on the rule only.
type offering struct{ access.Authorizer }

func (offering) Offer(ctx context.Context, action access.Action, typ string) access.Offer {
	if s, err := access.From(ctx); err == nil && s.Purpose() == access.Treatment && action == access.Read && typ == "patient" {
		return access.OfferBreakGlass
	}
	return access.OfferNone
}

func TestOffer(t *testing.T) {
	t.Parallel()
	w := setup(t, func(w *world) { w.cfg.Authorizer = offering{w.cfg.Authorizer} })
	const want = "PermissionDenied denied part164 DENIED map[decision:ID offer:breakglass]"
	w.as("admin")
	if _, err := w.call("/clinic.Charts/Get"); answer(err) != want {
		t.Errorf("by the guard: %s", answer(err))
	}
	w.as("nurse")
	for name, err := range map[string]error{"no record": errors.New("record not found"), "denied": &access.DeniedError{Decision: "0123456789abcdef0123456789abcdef"}} {
		w.unary = func(ctx context.Context, _ string) (string, error) { return "", w.guard.Refuse(ctx, err) }
		if _, err := w.call("/clinic.Charts/Get"); answer(err) != want {
			t.Errorf("%s: %s", name, answer(err))
		}
	}
	w.unary = func(ctx context.Context, _ string) (string, error) {
		return "", &access.DeniedError{Decision: "0123456789abcdef0123456789abcdef"}
	}
	if _, err := w.call("/clinic.Charts/Get"); answer(err) != want {
		t.Errorf("as is: %s", answer(err))
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	keys, err := machine.New(machine.Config{Store: machine.NewMemory(), Audit: trail,
		Accounts: func(context.Context, string, string) (access.Kind, error) { return "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	k, token, err := keys.Issue(t.Context(), machine.NewKey{Tenant: "t-1", Service: "svc-1", Roles: []string{"nurse"}, Purposes: []access.Purpose{access.Treatment}})
	if err != nil {
		t.Fatal(err)
	}
	w := setup(t, func(w *world) { w.cfg.Authenticate = grpcaccess.Machine(keys, nil) })
	call := func(values ...string) error {
		ctx := t.Context()
		for _, v := range values {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
		}
		return w.client.Invoke(ctx, "/clinic.Charts/Get", wrapperspb.String(""), new(wrapperspb.StringValue))
	}
	if err := call("Bearer " + token); err != nil {
		t.Error(err)
	}
	for name, values := range map[string][]string{"none": nil, "two": {"Bearer " + token, "Bearer " + token}, "another scheme": {"Basic " + token}, "a bad one": {"Bearer x"}} {
		if err := call(values...); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := keys.Revoke(t.Context(), "t-1", k.ID); err != nil {
		t.Fatal(err)
	}
	if err := call("Bearer " + token); status.Code(err) != codes.Unauthenticated {
		t.Errorf("revoked: %v", err)
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	good := grpcaccess.Rule{Action: access.Read, Resource: "patient", Purposes: []access.Purpose{access.Treatment}}
	rule := func(change func(*grpcaccess.Rule)) map[string]grpcaccess.Rule {
		r := good
		change(&r)
		return map[string]grpcaccess.Rule{"/a.B/C": r}
	}
	for says, change := range map[string]func(*grpcaccess.Config){
		"Authorizer":  func(c *grpcaccess.Config) { c.Authorizer = nil },
		"Audit":       func(c *grpcaccess.Config) { c.Audit = nil },
		"Recheck":     func(c *grpcaccess.Config) { c.Recheck = -1 },
		"the name":    func(c *grpcaccess.Config) { c.Methods = map[string]grpcaccess.Rule{"a.B/C": good} },
		"is not of":   func(c *grpcaccess.Config) { c.Methods = map[string]grpcaccess.Rule{"/a.B/": good} },
		"the form":    func(c *grpcaccess.Config) { c.Methods = map[string]grpcaccess.Rule{"/a.B/C/D": good} },
		"Action":      func(c *grpcaccess.Config) { c.Methods = rule(func(r *grpcaccess.Rule) { r.Action = "" }) },
		"Resource":    func(c *grpcaccess.Config) { c.Methods = rule(func(r *grpcaccess.Rule) { r.Resource = "a patient" }) },
		"Purposes is": func(c *grpcaccess.Config) { c.Methods = rule(func(r *grpcaccess.Rule) { r.Purposes = nil }) },
		"Purposes[0]": func(c *grpcaccess.Config) {
			c.Methods = rule(func(r *grpcaccess.Rule) { r.Purposes = []access.Purpose{"X"} })
		},
		"Public is": func(c *grpcaccess.Config) { c.Methods = rule(func(r *grpcaccess.Rule) { r.Public = true }) },
	} {
		cfg := grpcaccess.Config{Authorizer: accesstest.Allow(), Audit: audittest.New(t)}
		change(&cfg)
		if _, err := grpcaccess.New(cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
