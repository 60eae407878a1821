package allinone

import "testing"

const toySample = `# toy
listen: 127.0.0.1:1 # where
peers:
  - a
  - b

limits:
  # how many
  per_source: 5
  deep:
    listen: x
name: y
`

func TestSetKey(t *testing.T) {
	tests := []struct{ key, value, want string }{
		{"listen", "':2'", "# toy\nlisten: ':2'  # where\npeers:\n  - a\n  - b\n\nlimits:\n  # how many\n  per_source: 5\n  deep:\n    listen: x\nname: y\n"},
		{"peers", "[c]", "# toy\nlisten: 127.0.0.1:1 # where\npeers: [c]\n\nlimits:\n  # how many\n  per_source: 5\n  deep:\n    listen: x\nname: y\n"},
		{"limits.deep.listen", "z", "# toy\nlisten: 127.0.0.1:1 # where\npeers:\n  - a\n  - b\n\nlimits:\n  # how many\n  per_source: 5\n  deep:\n    listen: z\nname: y\n"},
	}
	for _, tt := range tests {
		if got := setKey(toySample, tt.key, tt.value); got != tt.want {
			t.Errorf("setKey(%s) =\n%s\nwant\n%s", tt.key, got, tt.want)
		}
	}
}

func TestSetKeyOfNothingPanics(t *testing.T) {
	for _, key := range []string{"none", "limits.none", "limits.name", "x"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("setKey(%s) did not panic", key)
				}
			}()
			setKey(toySample, key, "1")
		}()
	}
}

func TestSection(t *testing.T) {
	if got, want := section("toy", "# a\n\nb: 1\n"), "toy:\n  # a\n\n  b: 1\n"; got != want {
		t.Errorf("section = %q, want %q", got, want)
	}
}
