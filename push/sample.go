package push

import _ "embed"

// Sample is the configuration file with every key, its default and its meaning.
//
//go:embed push.sample.yaml
var Sample string
