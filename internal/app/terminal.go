package app

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// terminal returns the descriptor of what is a terminal.
func terminal(w io.Writer) (fd int, ok bool) {
	file, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	return int(file.Fd()), true
}

// terminalWidth returns how many characters a line of a terminal has; 0 is no limit.
func terminalWidth(w io.Writer) int {
	fd, ok := terminal(w)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(fd)
	if err != nil {
		return 0
	}
	return width
}

// fit cuts the lines of a table that are longer than width, which is mostly their last column's fault. Files and pipes get all.
func fit(table string, width int) string {
	if width <= 0 {
		return table
	}
	var b strings.Builder
	for line := range strings.Lines(table) {
		runes := []rune(strings.TrimSuffix(line, "\n"))
		if len(runes) > width {
			runes = append(runes[:width-1], '…')
		}
		b.WriteString(string(runes) + "\n")
	}
	return b.String()
}

// printable returns s with everything escaped that could make a terminal do or show something else: control characters
// (also those above 0x7f), marks that change the direction of text, line separators, and bytes that are not UTF-8. The
// escapes are those of JSON strings, so JSON stays JSON of the same meaning.
func printable(s string) string {
	clean := true
	for _, r := range s {
		if unsafe(r) {
			clean = false
			break
		}
	}
	if clean && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				b.WriteString(`\ufffd`)
				continue
			}
		}
		switch {
		case !unsafe(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r >= 0xe0000 && r <= 0xe007f
}
