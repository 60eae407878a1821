package nameserver

import _ "embed"

// Sample is the configuration file with every key, its default and its meaning.
//
//go:embed nameserver.sample.yaml
var Sample string
