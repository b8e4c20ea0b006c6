# ruff: noqa: E501 -- a row is a line
"""Bodies, limits, and what becomes of the connection."""

from __future__ import annotations

from tests.kit.variations import TE, H, K, L, N, W, add, c, g, p, rows

# fmt: off

# content-length
for n,v in [("tab-inside",b"1\t0"),("dots",b"5."),("exp",b"1e1"),("neg0",b"-0"),("oct",b"0o5"),("hex",b"0x5"),("us",b"1_0"),("sp-lead-plus",b"+ 5"),("list",b"5,5"),("list3",b"5;5"),
   ("vt-lead",b"\x0b5"),("nbsp",b"5\xa0"),("nel",b"\x855"),("super",b"\xb2"),("arab","\u0665".encode()),("fw","\uff15".encode()),("sq",b"'5'"),("nan",b"nan"),("true",b"true"),("nul",b"5\x00"),("20d",b"00000000000000000005"),("paren",b"(5)"),("pct",b"%35")]:
    add("length: "+n, p(b"Content-Length: "+v+b"\r\n",b"hello")+N, 400)
add("length: 19zeros5", p(b"Content-Length: 0000000000000000005\r\n",b"hello"), K, body=b"hello")
add("length: tabs-around", p(b"Content-Length:\t5\t \r\n",b"hello"), K, body=b"hello")
add("length: max19", p(b"Content-Length: 9999999999999999999\r\n",b""), 413)
add("length: 2^63", p(b"Content-Length: 9223372036854775808\r\n",b""), 413)
add("length: case-twice", p(b"content-length: 5\r\nCONTENT-LENGTH: 5\r\n",b"hello")+N, 400)
add("length: zero-and-body", p(b"Content-Length: 0\r\n")+g(), K, K)
add("length: 10", p(b"Content-Length: 3\r\n",b"abc",b"1.0"), L, body=b"abc")
add("length: 10-trailing", p(b"Content-Length: 3\r\n",b"abcGET /_smuggled HTTP/1.1\r\n",b"1.0"), L, body=b"abc")
add("length: 10-none", p(b"",N,b"1.0"), L, body=b"")
add("length: get-0", g(b"Content-Length: 0\r\n"), K)
add("length: head-body", b"HEAD /x HTTP/1.1\r\n"+H+b"Content-Length: 3\r\n\r\nabc"+g(), K, K, body=b"abc")
add("length: delete-body", b"DELETE /x HTTP/1.1\r\n"+H+b"Content-Length: 3\r\n\r\nabc"+g(), K, K)
add("length: none-then-body", p(b"",b"hello"), K, W)
add("length: limit-n", p(b"Content-Length: 10\r\n",b"0123456789"), K, limits={"body": 10})
add("length: limit-n-1", p(b"Content-Length: 9\r\n",b"012345678"), K, limits={"body": 10})
add("length: limit-n+1", p(b"Content-Length: 11\r\n",b"01234567890"), 413, limits={"body": 10})
# transfer-encoding
for n,v,e in rows([("caps",b"CHUNKED",K),("mixed",b"cHuNkEd",K),("identity",b"identity",501),("x",b"x",501),("empty-list",b",",400),("chunked-comma-empty",b"chunked,,",400),("chunk",b"chunk",501),("chunked-sp",b"chunked chunked",400),
   ("gzip",b"gzip",501),("chunked,identity",b"chunked, identity",400),("identity,chunked",b"identity, chunked",501),("q",b"chunked;q=1",400),("dq",b'"chunked"',400),("nul",b"chunked\x00",400),("long-s","chun\u017fed".encode(),400),("kelvin","chun\u212aed".encode(),400),
   ("nbsp",b"\xa0chunked",400),("vt",b"\x0bchunked",400),("tab-lead",b"\tchunked",K),("colon",b": chunked",400),("lf",b"\nchunked",400),("cr",b"\rchunked",400)]):
    add("coding: "+n, p(b"Transfer-Encoding: "+v+b"\r\n",b"3\r\nabc\r\n0\r\n\r\n"+(N if e!=K else b"")), e)
add("coding: get-10", g(TE,line=b"GET /x HTTP/1.0")+b"0\r\n\r\n"+N, 400)
add("coding: 10-ka", p(TE+b"Connection: keep-alive\r\n",b"0\r\n\r\n",b"1.0")+N, 400)
add("coding: cl0", p(TE+b"Content-Length: 0\r\n",b"0\r\n\r\n")+N, 400)
add("coding: cl-empty", p(TE+b"Content-Length:\r\n",b"0\r\n\r\n")+N, 400)
add("coding: cl-first-dup", p(b"Content-Length: 3\r\n"+TE+b"Content-Length: 3\r\n",b"0\r\n\r\n")+N, 400)
add("coding: twice-case", p(TE+b"transfer-encoding: chunked\r\n",b"0\r\n\r\n")+N, 400)
add("coding: then-identity", p(TE+b"Transfer-Encoding: identity\r\n",b"0\r\n\r\n")+N, 400)
add("coding: identity-then", p(b"Transfer-Encoding: identity\r\n"+TE,b"0\r\n\r\n")+N, 501)
add("coding: _-and-cl", p(b"Transfer-Encoding_: chunked\r\nContent-Length: 3\r\n",b"abc"), K, body=b"abc")
add("coding: sp-colon", p(b"Transfer-Encoding : chunked\r\n",b"0\r\n\r\n")+N, 400)
add("coding: expect", p(TE+b"Expect: 100-continue\r\n",b"3\r\nabc\r\n0\r\n\r\n"), K, body=b"abc")
add("coding: TE-field", p(b"TE: chunked\r\nContent-Length: 3\r\n",b"abc"), K, body=b"abc")
add("coding: upgrade", p(TE+b"Upgrade: h2c\r\nConnection: Upgrade\r\n",b"3\r\nabc\r\n0\r\n\r\n")+g(), K, K, body=b"abc")
# chunks
for n,b,e in rows([("hex-caps",b"A\r\n0123456789\r\n0\r\n\r\n",K),("hex-low",b"a\r\n0123456789\r\n0\r\n\r\n",K),("0x",b"0x3\r\nabc\r\n0\r\n\r\n",400),("neg",b"-3\r\nabc\r\n0\r\n\r\n",400),("neg0",b"-0\r\n\r\n",400),("us",b"0_3\r\nabc\r\n0\r\n\r\n",400),
   ("sp-lead",b" 3\r\nabc\r\n0\r\n\r\n",400),("tab-lead",b"\t3\r\nabc\r\n0\r\n\r\n",400),("sp-trail",b"3 \r\nabc\r\n0\r\n\r\n",400),("tab-trail",b"3\t\r\nabc\r\n0\r\n\r\n",400),("0-sp",b"0 \r\n\r\n",400),("nul",b"3\x00\r\nabc\r\n0\r\n\r\n",400),("h",b"3h\r\nabc\r\n0\r\n\r\n",400),
   ("lf-size",b"3\nabc\r\n0\r\n\r\n",400),("cr-size",b"3\rabc\r\n0\r\n\r\n",400),("lf-data",b"3\r\nabc\n0\r\n\r\n",400),("crcrlf",b"3\r\nabc\r\r\n0\r\n\r\n",400),("lfcr",b"3\r\nabc\n\r0\r\n\r\n",400),("last-lf",b"3\r\nabc\r\n0\n\r\n",400),("last-lf2",b"3\r\nabc\r\n0\r\n\n",400),("last-cr",b"3\r\nabc\r\n0\r\n\rX",400),
   ("short",b"4\r\nabc\r\n0\r\n\r\n",400),("long",b"2\r\nabc\r\n0\r\n\r\n",400),("empty-size",b";a\r\nabc\r\n0\r\n\r\n",400),("ext-eq",b"3;=\r\nabc\r\n0\r\n\r\n",400),("ext-noval",b"3;a=\r\nabc\r\n0\r\n\r\n",400),("ext-dbl",b"3;;a\r\nabc\r\n0\r\n\r\n",400),("ext-end;",b"3;a;\r\nabc\r\n0\r\n\r\n",400),
   ("ext-q-empty",b'3;a=""\r\nabc\r\n0\r\n\r\n',K),("ext-q-esc",b'3;a="\\""\r\nabc\r\n0\r\n\r\n',K),("ext-q-semi",b'3;a=";"\r\nabc\r\n0\r\n\r\n',K),("ext-q-open",b'3;a="b\r\nabc\r\n0\r\n\r\n',400),("ext-q-esc-end",b'3;a="b\\"\r\nabc\r\n0\r\n\r\n',400),("ext-q-nul",b'3;a="\x00"\r\nabc\r\n0\r\n\r\n',400),("ext-q-del",b'3;a="\x7f"\r\nabc\r\n0\r\n\r\n',400),
   ("ext-q-obs",b'3;a="\xff"\r\nabc\r\n0\r\n\r\n',K),("ext-name-obs",b"3;\xff\r\nabc\r\n0\r\n\r\n",400),("ext-bws",b"3 ; a = b\r\nabc\r\n0\r\n\r\n",K),("ext-trail-sp",b"3;a \r\nabc\r\n0\r\n\r\n",400),("ext-vt",b"3;\x0ba\r\nabc\r\n0\r\n\r\n",400),("ext-cr",b"3;\r\r\nabc\r\n0\r\n\r\n",400),("ext-lf",b"3;a\nb\r\nabc\r\n0\r\n\r\n",400),("ext-q-cr",b'3;a="\r"\r\nabc\r\n0\r\n\r\n',400),("ext-q-lf",b'3;a="\n"\r\nabc\r\n0\r\n\r\n',400),
   ("ext-last",b'3\r\nabc\r\n0;a="b"\r\n\r\n',K),("ext-last-bad",b"3\r\nabc\r\n0;\r\n\r\n",400),("ext-tokens",b"3;!#$%&'*+-.^_`|~09az=!#$%&'*+-.^_`|~\r\nabc\r\n0\r\n\r\n",K),
   ("16digits",b"0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n",K),("17digits",b"00000000000000003\r\nabc\r\n0\r\n\r\n",400),("17zeros",b"3\r\nabc\r\n00000000000000000\r\n\r\n",400),("2^63",b"8000000000000000\r\nabc",413),("over",b"10000000000000003\r\nabc\r\n0\r\n\r\n",400),("arab","\u0663\r\nabc\r\n0\r\n\r\n".encode(),400),("blank-before",b"\r\n3\r\nabc\r\n0\r\n\r\n",400),("two-blank-end",b"3\r\nabc\r\n0\r\n\r\n\r\n",K)]):
    add("chunks: "+n, c(b)+(N if e==400 else b""), e, body=None)
add("chunks: then-next", c(b"3\r\nabc\r\n0\r\n\r\n")+g(), K, K)
add("chunks: size-in-data", c(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n")+g(), K, K, body=b"0\r\n\r\n")
add("chunks: total-n", c(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), K, limits={"body": 5})
add("chunks: total-n+1", c(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"), 413, limits={"body": 5})
add("chunks: incomplete-size", c(b"3"), W)
add("chunks: incomplete-size-cr", c(b"3\r"), W)
add("chunks: incomplete-data", c(b"3\r\nab"), W)
add("chunks: incomplete-end", c(b"3\r\nabc\r"), W)
add("chunks: incomplete-last", c(b"3\r\nabc\r\n0\r\n\r"), W)
add("chunks: ext-4096", c(b"3;"+b"a"*4094+b"\r\nabc\r\n0\r\n\r\n"), K)
add("chunks: ext-4097", c(b"3;"+b"a"*4095+b"\r\nabc\r\n0\r\n\r\n"), 400)
# trailers
for n,t,e in rows([("bare",b"X: 1\r\n",K),("no-colon",b"X\r\n",400),("space-colon",b"X : 1\r\n",400),("fold",b"X: 1\r\n 2\r\n",400),("first-fold",b" X: 1\r\n",400),("nul",b"X: \x00\r\n",400),("bell",b"X: \x07\r\n",400),("del",b"X: \x7f\r\n",400),("obs",b"X: \xff\r\n",K),("name-obs",b"\xff: 1\r\n",400),("empty-name",b": 1\r\n",400),
   ("cr",b"X: a\rb\r\n",400),("lf",b"X: a\nY: b\r\n",400),("te",b"Transfer-Encoding: chunked\r\n",400),("te-case",b"transfer-ENCODING: x\r\n",400),("cl",b"content-length: 0\r\n",400),("host",b"HOST: u\r\n",400),("underscore",b"X_Y: 1\r\n",K),("conn",b"Connection: close\r\n",K),("auth",b"Authorization: x\r\n",K),("crcrlf",b"X: 1\r\r\n",400),("100",b"X: 1\r\n"*100,K),("101",b"X: 1\r\n"*101,431),("chunk",b"5\r\nhello\r\n",400),("tab-first",b"\tX: 1\r\n",400)]):
    add("trailers: "+n, c(b"3\r\nabc\r\n0\r\n"+t+b"\r\n")+(N if e != K else g()), *( [e] if e!=K else [K,K]))
add("trailers: never-ends", c(b"0\r\nX: 1\r\n"), W)
add("trailers: size-limit", c(b"0\r\n"+b"X: "+b"a"*8180+b"\r\n\r\n"), K)
# limits
add("limits: line-n-1", b"GET /"+b"a"*(50-1-len(b"GET / HTTP/1.1"))+b" HTTP/1.1\r\n"+H+b"\r\n", K, limits={"line": 50})
add("limits: line-n", b"GET /"+b"a"*(50-len(b"GET / HTTP/1.1"))+b" HTTP/1.1\r\n"+H+b"\r\n", K, limits={"line": 50})
add("limits: line-n+1", b"GET /"+b"a"*(51-len(b"GET / HTTP/1.1"))+b" HTTP/1.1\r\n"+H+b"\r\n"+N, 414, limits={"line": 50})
add("limits: field-n-1", g(b"X: "+b"a"*36+b"\r\n"), K, limits={"field_size": 40})
add("limits: field-n", g(b"X: "+b"a"*37+b"\r\n"), K, limits={"field_size": 40})
add("limits: field-n+1", g(b"X: "+b"a"*38+b"\r\n")+N, 431, limits={"field_size": 40})
add("limits: field-ws-counts", g(b"X:"+b" "*38+b"a\r\n")+N, 431, limits={"field_size": 40})
add("limits: fields-n-1", g(b"X: 1\r\n"*3), K, limits={"fields": 5})
add("limits: fields-n", g(b"X: 1\r\n"*4), K, limits={"fields": 5})
add("limits: fields-n+1", g(b"X: 1\r\n"*5)+N, 431, limits={"fields": 5})
w=g(b"X: 1\r\n"*3)
add("limits: head-n", w, K, limits={"head": len(w)})
add("limits: head-n+1-bytes", w, K, limits={"head": len(w)+1})
add("limits: head-n-1", w, 431, limits={"head": len(w)-1})
add("limits: default-line-8190", b"GET /"+b"a"*(8190-14)+b" HTTP/1.1\r\n"+H+b"\r\n", K)
add("limits: default-line-8191", b"GET /"+b"a"*(8191-14)+b" HTTP/1.1\r\n"+H+b"\r\n", 414)
add("limits: default-field-8190", g(b"X: "+b"a"*8187+b"\r\n"), K)
add("limits: default-field-8191", g(b"X: "+b"a"*8188+b"\r\n"), 431)
add("limits: default-fields-100", g(b"X: 1\r\n"*99), K)
add("limits: default-fields-101", g(b"X: 1\r\n"*100)+N, 431)
h8=b"X: "+b"a"*8000+b"\r\n"
add("limits: default-head-over", g(h8*9)+N, 431)
add("limits: default-head-under", g(h8*8), K)
add("limits: underscored-count", g(b"X_Y: 1\r\n"*100)+N, 431)
add("limits: fields-bad-after", g(b"X: 1\r\n"*100+b"\x00: 1\r\n")+N, 431)
# connection / pipelining
for n,v,e in rows([("Close",b"Close",L),("cl,ka",b"close, keep-alive",L),("ka,cl",b"keep-alive,close",L),("closex",b"closex",K),("xclose",b"x-close",K),("q-close",b'"close"',K),("tab-close",b"\tclose\t",L),("sp-list",b" , close ,",L),("upgrade",b"Upgrade",K),("empty",b"",K),("close;",b"close;q=1",K),("nel",b"close\x85",K),("te",b"TE, close",L)]):
    add("keep-alive: "+n, g(b"Connection: "+v+b"\r\n")+(N if e==L else b""), e)
add("keep-alive: two-lines", g(b"Connection: x\r\nX: 1\r\nConnection: close\r\n")+N, L)
add("keep-alive: 10-upper", g(b"Connection: KEEP-ALIVE\r\n",line=b"GET /x HTTP/1.0")+g(line=b"GET /y HTTP/1.0"), K, L)
add("keep-alive: 10-both", g(b"Connection: keep-alive, close\r\n",line=b"GET /x HTTP/1.0")+N, L)
add("keep-alive: 10-keepalive-field", g(b"Keep-Alive: timeout=5\r\n",line=b"GET /x HTTP/1.0")+N, L)
add("keep-alive: proxy-conn", g(b"Proxy-Connection: close\r\n")+g(), K, K)
add("keep-alive: get-post-get", g()+p(b"Content-Length: 3\r\n",b"abc")+g(), K, K, K)
add("keep-alive: bad-third", g()+g()+b"X\r\n\r\n"+N, K, K, 400)
add("keep-alive: lf-in-second", g()+b"GET /x HTTP/1.1\nHost: t\n\n"+N, K, 400)
add("keep-alive: body-looks-like-head", p(b"Content-Length: %d\r\n"%len(N),N)+g(), K, K)
add("keep-alive: half-second", g()+b"GET /y HT", K, W)
# expect
for n,v,e in rows([("upper",b"100-CONTINUE",K),("sp",b"100 - continue",417),("list",b"100-continue, x",417),("list2",b"100-continue, 100-continue",417),("100",b"100",417),("200-ok",b"200-ok",417),("empty",b"",417),("param",b"100-continue;q=1",417),("q",b'"100-continue"',417),("obs",b"100-continue\xa0",417)]):
    add("expectations: "+n, p(b"Content-Length: 3\r\nExpect: "+v+b"\r\n",b"abc"+(N if e!=K else b"")), e)
add("expectations: 10-other", p(b"Content-Length: 3\r\nExpect: x\r\n",b"abc",b"1.0"), L)
add("expectations: get-other", g(b"Expect: x\r\n")+N, 417)
add("expectations: over", p(b"Content-Length: 11\r\nExpect: 100-continue\r\n"), 413, limits={"body": 10})
add("expectations: tecl", p(TE+b"Content-Length: 3\r\nExpect: 100-continue\r\n")+N, 400)
# upgrade
for n,f in [("h2c",b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),("ws",b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"),("tls",b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n"),("noconn",b"Upgrade: h2c\r\n"),("empty",b"Connection: upgrade\r\nUpgrade:\r\n"),("list",b"Connection: upgrade\r\nUpgrade: a/1, b/2\r\n"),("proto8",b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: \xff\r\n")]:
    add("upgrades: "+n, g(f)+g(), K, K)
add("upgrades: close", g(b"Connection: upgrade, close\r\nUpgrade: h2c\r\n")+N, L)
add("upgrades: 10", g(b"Connection: upgrade\r\nUpgrade: h2c\r\n",line=b"GET /x HTTP/1.0")+N, L)
add("upgrades: bad", g(b"Connection: upgrade\r\nUpgrade: h2c\r\nX : 1\r\n")+N, 400)
add("upgrades: cl", p(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n"%len(N),N)+g(), K, K)
