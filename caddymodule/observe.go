package caddymodule

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tokengateway/caddy-token-gateway/grants"
)

// What the log says of an event, and how loud. Those that need no line are not here.
var eventMessages = map[grants.EventKind]struct {
	level   zapcore.Level
	message string
}{
	grants.RefreshTokenReused: {zap.WarnLevel, "a used refresh token was presented again: it may be stolen; its session was revoked"},
	grants.StoreRolledBack: {zap.WarnLevel, "a refresh token is newer than the store: the store was rolled back, " +
		"by a restored backup or a stale replica; the session goes on"},
	grants.RefreshTokenReplayed: {zap.DebugLevel, "a refresh was asked for again within the grace window and got the same answer"},
	grants.SigningKeyCreated:    {zap.InfoLevel, "a signing key was created"},
}

// observe logs an event and emits it to Caddy's events app.
func (a *App) observe(ctx context.Context, event grants.Event) {
	fields := map[string]any{}
	for name, value := range map[string]string{
		"client": event.ClientID, "subject": event.Subject, "key": event.KeyID, "request_id": requestIDOf(ctx),
	} {
		if value != "" {
			fields[name] = value
		}
	}
	if event.FamilyID != uuid.Nil {
		fields["session"] = event.FamilyID.String()
	}
	say := eventMessages[event.Kind]
	if entry := a.logger.Check(say.level, say.message); entry != nil {
		entry.Write(logFields(fields)...)
	}
	a.events.Emit(a.ctx, string(event.Kind), fields)
}

func logFields(values map[string]any) []zap.Field {
	fields := make([]zap.Field, 0, len(values))
	for name, value := range values {
		fields = append(fields, zap.Any(name, value))
	}
	return fields
}

type requestIDKey struct{}

// requestIDOf returns the ID of the request that a context belongs to, empty if it belongs to none.
func requestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// newRequestID returns the ID that Caddy's own logs have for a request, too.
func newRequestID(repl *caddy.Replacer) string {
	id, _ := repl.GetString("http.request.uuid")
	return id
}
