package frame

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// The cases of the Autobahn test suite for WebSocket servers, sections 1 to 7 and 10, by their numbers. Where the suite
// sends one stream in several ways (at once, frame by frame, octet by octet) there is one case here, and every case is
// fed in all of these ways. Streams and results are written as in testdata/frames.txt.
var autobahn = []struct{ name, in, want string }{
	// 1: lengths of every form.
	{"1.1.1", "text:", "text"},
	{"1.1.2", "text:125*x", "text 125*x"},
	{"1.1.3", "text:126*x", "text 126*x"},
	{"1.1.4", "text:127*x", "text 127*x"},
	{"1.1.5", "text:128*x", "text 128*x"},
	{"1.1.6", "text:65535*x", "text 65535*x"},
	{"1.1.7, 1.1.8", "text:65536*x", "text 65536*x"},
	{"1.2.1", "binary:", "binary"},
	{"1.2.2", "binary:125*x", "binary 125*x"},
	{"1.2.3", "binary:126*x", "binary 126*x"},
	{"1.2.4", "binary:127*x", "binary 127*x"},
	{"1.2.5", "binary:128*x", "binary 128*x"},
	{"1.2.6", "binary:65535*x", "binary 65535*x"},
	{"1.2.7, 1.2.8", "binary:65536*x", "binary 65536*x"},

	// 2: pings and pongs.
	{"2.1", "ping:", "ping"},
	{"2.2", "ping:Hello,world!", "ping Hello,world!"},
	{"2.3", "ping:0x00fffefdfcfb00ff", "ping 0x00fffefdfcfb00ff"},
	{"2.4, 2.6", "ping:125*0", "ping 125*0"},
	{"2.5", "89 fe 00 7e 00 00 00 00", "error 1002"},
	{"2.7", "pong:", "pong"},
	{"2.8", "pong:unasked", "pong unasked"},
	{"2.9", "pong:unasked ping:asked", "pong unasked | ping asked"},
	{"2.10, 2.11", "ping:0 ping:1 ping:2 ping:3 ping:4 ping:5 ping:6 ping:7 ping:8 ping:9",
		"ping 0 | ping 1 | ping 2 | ping 3 | ping 4 | ping 5 | ping 6 | ping 7 | ping 8 | ping 9"},

	// 3: reserved bits, without an extension that gives them a meaning.
	{"3.1", "91 80 00 00 00 00", "error 1002"},
	{"3.2", "text:hello a1 80 00 00 00 00 ping:", "text hello | error 1002"},
	{"3.3", "text:hello b1 80 00 00 00 00 ping:", "text hello | error 1002"},
	{"3.4", "text:hello c1 80 00 00 00 00 ping:", "text hello | error 1002"},
	{"3.5", "d2 80 00 00 00 00", "error 1002"},
	{"3.6", "e9 80 00 00 00 00", "error 1002"},
	{"3.7", "f8 80 00 00 00 00", "error 1002"},

	// 4: reserved opcodes.
	{"4.1.1", "83 80 00 00 00 00", "error 1002"},
	{"4.1.2", "84 81 00 00 00 00 78", "error 1002"},
	{"4.1.3", "text:hello 85 80 00 00 00 00 ping:", "text hello | error 1002"},
	{"4.1.4", "text:hello 86 81 00 00 00 00 78 ping:", "text hello | error 1002"},
	{"4.1.5", "text:hello 87 80 00 00 00 00 ping:", "text hello | error 1002"},
	{"4.2.1", "8b 80 00 00 00 00", "error 1002"},
	{"4.2.2", "8c 81 00 00 00 00 78", "error 1002"},
	{"4.2.3", "text:hello 8d 80 00 00 00 00 ping:", "text hello | error 1002"},
	{"4.2.4", "text:hello 8e 81 00 00 00 00 78 ping:", "text hello | error 1002"},
	{"4.2.5", "text:hello 8f 80 00 00 00 00 ping:", "text hello | error 1002"},

	// 5: fragments.
	{"5.1", "+ping:a cont:b", "error 1002"},
	{"5.2", "+pong:a cont:b", "error 1002"},
	{"5.3, 5.4, 5.5", "+text:frag cont:ment", "text fragment"},
	{"5.6, 5.7, 5.8", "+text:frag ping:p cont:ment", "ping p | text fragment"},
	{"5.9, 5.10, 5.11", "cont:nothing text:hello", "error 1002"},
	{"5.12, 5.13, 5.14", "+cont:nothing text:hello", "error 1002"},
	{"5.15", "+text:frag cont:ment +cont:nothing text:hello", "text fragment | error 1002"},
	{"5.16", "+cont:nothing +text:frag cont:ment +cont:nothing +text:frag cont:ment", "error 1002"},
	{"5.17", "cont:nothing +text:frag cont:ment cont:nothing +text:frag cont:ment", "error 1002"},
	{"5.18", "+text:frag text:ment", "error 1002"},
	{"5.19, 5.20", "+text:1 +cont:2 ping:p +cont:3 +cont:4 ping:q cont:5", "ping p | ping q | text 12345"},

	// 6.1 to 6.4: text in fragments that fall anywhere, and what is wrong is told before the message is complete.
	{"6.1.1", "text:", "text"},
	{"6.1.2", "+text: +cont: cont:", "text"},
	{"6.1.3", "+text: +cont:middle cont:", "text middle"},
	{"6.2.1", "text:Hello-µ@ßöäüàá-UTF-8!!", "text Hello-µ@ßöäüàá-UTF-8!!"},
	{"6.2.2", "+text:Hello-µ@ß cont:öäüàá-UTF-8!!", "text Hello-µ@ßöäüàá-UTF-8!!"},
	{"6.2.3", octets("Hello-µ@ßöäüàá-UTF-8!!"), "text Hello-µ@ßöäüàá-UTF-8!!"},
	{"6.2.4", octets(greek), "text " + greek},
	{"6.3.1", "text:0xcebae1bdb9cf83cebcceb5eda080656469746564", "error 1007"},
	{"6.3.2", octets(greek + "\xed\xa0\x80edited"), "error 1007"},
	{"6.4.1", "+text:" + greek + " +cont:0xf4908080", "error 1007"},
	{"6.4.2", "+text:0xcebae1bdb9cf83cebcceb5f4 +cont:0x90", "error 1007"},
	{"6.4.3", "81 95 00 00 00 00 ce ba e1 bd b9 cf 83 ce bc ce b5 f4 90 80 80", "error 1007"},
	{"6.4.4", "81 95 00 00 00 00 ce ba e1 bd b9 cf 83 ce bc ce b5 f4 90", "error 1007"},

	// 7: closing.
	{"7.1.1", "text:hello close:0x03e8", "text hello | close 1000"},
	{"7.1.2", "close:0x03e8 close:0x03e8", "close 1000"},
	{"7.1.3", "close:0x03e8 ping:", "close 1000"},
	{"7.1.4", "close:0x03e8 text:hello", "close 1000"},
	{"7.1.5", "+text:frag close:0x03e8 cont:ment", "close 1000"},
	{"7.1.6", "text:262144*x close:0x03e8 ping:", "text 262144*x | close 1000"},
	{"7.3.1", "close:", "close 1005"},
	{"7.3.2", "close:a", "error 1002"},
	{"7.3.3", "close:0x03e8", "close 1000"},
	{"7.3.4", "close:0x03e8" + hex.EncodeToString([]byte("Hello World!")), "close 1000"},
	{"7.3.5", "close:0x03e8" + strings.Repeat("2a", 123), "close 1000"},
	{"7.3.6", "88 fe 00 7e 00 00 00 00", "error 1002"},
	{"7.5.1", "close:0x03e8cebae1bdb9cf83cebcceb5eda080656469746564", "error 1007"},
	{"7.13.1", "close:0x1388", "error 1002"}, // 5000
	{"7.13.2", "close:0xffff", "error 1002"}, // 65535

	{"10.1.1", "+text:1300*x " + strings.Repeat("+cont:1300*x ", 49) + "cont:536*x", "text 65536*x"},
}

// octets is s as a message of fragments of one byte.
func octets(s string) string {
	words := make([]string, len(s))
	for i := range len(s) {
		words[i] = fmt.Sprintf("+cont:0x%02x", s[i])
	}
	words[0] = strings.Replace(words[0], "cont", "text", 1)
	words[len(s)-1] = words[len(s)-1][1:]
	return strings.Join(words, " ")
}

// autobahnTexts is section 6.5 to 6.23: what is valid UTF-8. Each text is a case of its own.
var autobahnTexts = []struct {
	name  string
	valid bool
	texts []string
}{
	{"6.5", true, []string{"hello$world", "hello¢world", "hello€world", "hello𤭢world", greek}},
	// 6.6 is made of prefixes, below.
	{"6.7", true, []string{"\x00", "\u0080", "\u0800", "\U00010000"}},
	{"6.8", false, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
	{"6.9", true, []string{"\x7f", "\u07ff", "\uffff", "\U0010ffff"}},
	{"6.10", false, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
	{"6.11.1-4", true, []string{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff"}},
	{"6.11.5", false, []string{"\xf4\x90\x80\x80"}},
	{"6.12", false, []string{
		"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf", span(0x80, 0xbf, ""),
	}},
	{"6.13", false, []string{span(0xc0, 0xdf, " "), span(0xe0, 0xef, " "), span(0xf0, 0xf7, " "), span(0xf8, 0xfb, " "), span(0xfc, 0xfd, " ")}},
	{"6.14", false, cutShort},
	{"6.15", false, []string{strings.Join(cutShort, "")}},
	{"6.16", false, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
	{"6.17", false, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
	{"6.18", false, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
	{"6.19", false, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
	{"6.20", false, []string{
		"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf",
	}},
	{"6.21", false, []string{
		"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
		"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf",
	}},
	{"6.22", true, noncharacters()},
	{"6.23", true, []string{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"}},
}

// cutShort are sequences without their last byte, the shortest and the longest of each length.
var cutShort = []string{
	"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
	"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
}

func span(first, last byte, sep string) string {
	var b strings.Builder
	for c := int(first); c <= int(last); c++ {
		b.WriteByte(byte(c))
		b.WriteString(sep)
	}
	return b.String()
}

// noncharacters are the last two code points of every plane.
func noncharacters() (texts []string) {
	for plane := range rune(17) {
		texts = append(texts, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	return texts
}

// greek is a word whose second letter takes three bytes, and the others two.
const greek = "\u03ba\u1f79\u03c3\u03bc\u03b5"

var autobahnCuts = [][]int{nil, {1}, {2}, {997}}

func TestAutobahn(t *testing.T) {
	limits := DefaultLimits(1 << 20)
	check := func(t *testing.T, in []byte, want string) {
		t.Helper()
		for _, cuts := range autobahnCuts {
			if got := strings.Join(readAll(limits, in, cuts...), " | "); got != want {
				t.Errorf("in pieces of %v: got %s, want %s", cuts, clip(got), clip(want))
			}
		}
	}
	for _, c := range autobahn {
		t.Run(c.name, func(t *testing.T) {
			check(t, streamOf(t, c.in), strings.Join(resultsOf(t, c.want), " | "))
		})
	}
	// Every defined close code, and some that never travel.
	for _, codes := range []struct {
		name, want string
		codes      []uint16
	}{
		{"7.7", "close %d", []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999}},
		{"7.9", "error 1002", []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999}},
	} {
		for i, code := range codes.codes {
			t.Run(fmt.Sprintf("%s.%d", codes.name, i+1), func(t *testing.T) {
				want := codes.want
				if strings.Contains(want, "%d") {
					want = fmt.Sprintf(want, code)
				}
				check(t, AppendMasked(nil, Close, true, [4]byte{1, 2, 3, 4}, []byte{byte(code >> 8), byte(code)}), want)
			})
		}
	}
	text := func(s string, valid bool) func(t *testing.T) {
		return func(t *testing.T) {
			want := "error 1007"
			if valid {
				want = fmt.Sprintf("text %x", s)
			}
			check(t, AppendMasked(nil, Text, true, [4]byte{1, 2, 3, 4}, []byte(s)), want)
			check(t, streamOf(t, octets(s)), want)
		}
	}
	for _, group := range autobahnTexts {
		for i, s := range group.texts {
			t.Run(fmt.Sprintf("%s.%d", group.name, i+1), text(s, group.valid))
		}
	}
	whole := map[int]bool{2: true, 5: true, 7: true, 9: true, 11: true} // where its characters end
	for n := 1; n <= len(greek); n++ {
		t.Run(fmt.Sprintf("6.6.%d", n), text(greek[:n], whole[n]))
	}
}

func clip(s string) string { return s[:min(len(s), 200)] }
