package turnserver

import _ "embed"

// Sample is the configuration file with every key, its default and its meaning.
//
//go:embed turnserver.sample.yaml
var Sample string
