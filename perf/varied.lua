-- A browser's fields with a request id and a cookie that no other request has, so that nothing which a
-- server remembers of earlier requests can help it.
local fields = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  ["Accept-Language"] = "en-US,en;q=0.5",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Referer"] = "http://example.test/articles/2024/11/a-page-that-links-here",
  ["Connection"] = "keep-alive",
  ["Upgrade-Insecure-Requests"] = "1",
  ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Priority"] = "u=0, i",
}
local number = 0

request = function()
  number = number + 1
  fields["X-Request-Id"] = string.format("%016x", number * 2654435761)
  fields["Cookie"] = string.format("sessionid=q8f3k2m1z0x9c8v7b6n5%010d; theme=dark", number)
  return wrk.format("GET", "/articles/" .. number .. "?page=" .. number, fields)
end
