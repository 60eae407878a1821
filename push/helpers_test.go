package push

import (
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/provider"
)

func secretFile(path string) config.SecretFile { return config.SecretFile(path) }

func death(token string) dispatch.Death {
	return dispatch.Death{Target: provider.Target{Platform: provider.IOS, Token: provider.PushToken(token)},
		Reason: provider.ReasonUnregistered, At: time.Unix(2, 0)}
}
