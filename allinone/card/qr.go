package card

import (
	"fmt"
	"net/http"
	"strings"

	"rsc.io/qr"
)

// quiet is the white border a reader needs, in modules (ISO/IEC 18004 §6.3.8).
const quiet = 4

// qr draws the page's address, for a phone's camera.
func (s *Server) qr(w http.ResponseWriter, _ *http.Request) {
	svg, err := drawQR(s.URL())
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "no-store")
	w.Write([]byte(svg))
}

// drawQR renders text as an SVG of one path, dark on white, one unit per module.
func drawQR(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("card: qr: %w", err)
	}
	side := code.Size + 2*quiet
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, side, side)
	fmt.Fprintf(&b, `<path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, side, side)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.String(), nil
}

// Terminal renders text as a QR code of half-block characters, two modules a line, for a dark or light terminal alike.
func Terminal(text string) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", fmt.Errorf("card: qr: %w", err)
	}
	const border = 2 // enough for phones, and the code stays small
	dark := func(x, y int) bool { return code.Black(x-border, y-border) }
	var b strings.Builder
	for y := 0; y < code.Size+2*border; y += 2 {
		b.WriteString("\x1b[30;107m") // black on bright white, whatever the theme
		for x := range code.Size + 2*border {
			b.WriteString([]string{" ", "▀", "▄", "█"}[bit(dark(x, y))|bit(dark(x, y+1))<<1])
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
