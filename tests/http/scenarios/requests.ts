// Requests as bytes, and one handler for all of them: what is answered is compared between Deno.serve and both engines.
import { deflateSync } from "node:zlib";
import { HANDSHAKE } from "../../kit/http_client.ts";

/** A request, and how the answers of the engines to it differ from that of Deno.serve. */
export interface RequestScenario {
  /** What the client sends. */
  readonly text: string;
  /** A part of the row in the table of differences, if there is one. */
  readonly row?: string;
  /** The engines that the row is about; `node:http` if nothing is said. */
  readonly differs?: "both";
  /** Whether the headers that say where a body ends are compared, too. */
  readonly framing?: true;
  /** Whether the texts of the statuses are compared, too. */
  readonly reason?: true;
}

const H = "Host: a\r\n";
const LINE = "the quick brown fox jumps over the lazy dog; ";

const get = (path: string, headers = H, method = "GET") => `${method} ${path} HTTP/1.1\r\n${headers}\r\n`;
const post = (path: string, body: string, headers = H, method = "POST") =>
  `${method} ${path} HTTP/1.1\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`;
const chunked = (path: string, chunks: string, headers = H, method = "POST") =>
  `${method} ${path} HTTP/1.1\r\n${headers}Transfer-Encoding: chunked\r\n\r\n${chunks}`;
const many = (count: number) => Array.from({ length: count }, (_, index) => `h${index}: v\r\n`).join("");
const upgrade = HANDSHAKE.map((line) => `${line}\r\n`).join("");
const asks = (protocol: string) => `${H}Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`;

/** The request that follows each of these, to tell whether its connection goes on. */
export const LAST = get("/end", `${H}Connection: close\r\n`);

const scenario = (text: string, row?: string, differs?: "both"): RequestScenario => {
  return { text, ...row === undefined ? {} : { row }, ...differs === undefined ? {} : { differs } };
};
const framed = (text: string, row?: string): RequestScenario => ({ ...scenario(text, row), framing: true });

const METHODS: Record<string, RequestScenario> = {
  "a GET": scenario(get("/a?b=c")),
  "a GET with an odd path": scenario(get("/%20a//b;c=d?e=%ff&f=[g]")),
  "a HEAD": scenario(get("/text", H, "HEAD")),
  "a HEAD of bytes": scenario(get("/bytes", H, "HEAD")),
  "a HEAD of a stream": scenario(get("/stream", H, "HEAD")),
  "a DELETE": scenario(get("/", H, "DELETE")),
  "a DELETE with a body": scenario(post("/body", "hello", H, "DELETE")),
  "a PUT": scenario(post("/body", "hello", H, "PUT")),
  "a PATCH": scenario(post("/body", "hello", H, "PATCH")),
  "a QUERY": scenario(post("/body", "hello", H, "QUERY")),
  "an OPTIONS": scenario(get("*", H, "OPTIONS")),
  "an OPTIONS with a body": scenario(post("/body", "hello", H, "OPTIONS")),
  "a TRACE": scenario(get("/", H, "TRACE")),
  "a PROPFIND": scenario(get("/", H, "PROPFIND")),
  "a method of its own": scenario(get("/", H, "BREW"), "methods may have any name"),
  "a method in lower case": scenario(get("/", H, "get"), "methods may have any name"),
  "a CONNECT": scenario(get("b:80", H, "CONNECT"), "`CONNECT` reaches the handler"),
  "a CONNECT with a path": scenario(get("/path", H, "CONNECT"), "`CONNECT` reaches the handler"),
  "two at once": scenario(get("/1") + get("/2")),
  "ten at once": scenario(Array.from({ length: 10 }, (_, index) => get(`/${index}`)).join("")),
  "a slow one and another at once": scenario(get("/slow") + get("/fast")),
  "what follows a last request": scenario(get("/slow", `${H}Connection: close\r\n`) + get("/never")),
  "empty lines before a request": scenario(`\r\n\r\n${get("/")}`),
};

const TARGETS: Record<string, RequestScenario> = {
  "no Host": scenario(get("/path", ""), "HTTP/1.1 without a Host line"),
  "an empty Host": scenario(get("/path", "Host: \r\n")),
  "a Host with a dot at the end": scenario(get("/", "Host: example.org.\r\n")),
  "a Host with a port": scenario(get("/", "Host: a:8080\r\n")),
  "a Host of IPv6": scenario(get("/", "Host: [::1]:8080\r\n")),
  "a Host that is normalised": scenario(get("/a/../b", "Host: A:80\r\n"), "the URL of a request is as it was sent"),
  "two Hosts": scenario(get("/", `${H}Host: b\r\n`)),
  "two Hosts that say the same": scenario(get("/", `${H}${H}`)),
  "an absolute target": scenario(get("http://x/p")),
  "an absolute target and no Host": scenario(get("http://x/p", ""), "HTTP/1.1 without a Host line"),
  "an absolute target with a port": scenario(get("http://x:1234/p")),
  "an absolute target and a Host with a port": scenario(get("http://x:1234/p", "Host: a:9999\r\n")),
  "an absolute target of https": scenario(get("https://x/p")),
  "an absolute target without a path": scenario(get("http://x?q"), "the URL of a request is as it was sent"),
  "a target that is a star": scenario(get("*")),
  "a target without a slash": scenario(get("path")),
  "a target that is an authority": scenario(get("deno.land:1234")),
  "a target that is not ASCII": scenario(get("/\xe4")),
  "a target with a fragment": scenario(get("/a#b")),
  "a target with a backslash": scenario(get("/a\\b"), "the URL of a request is as it was sent"),
  "a target with a query only": scenario(get("/?")),
  "a target with two slashes": scenario(get("//x/y")),
  "a target of 8 000 bytes": scenario(get(`/${"a".repeat(8_000)}`)),
  "another version": scenario("GET / HTTP/2.5\r\n\r\n"),
  "HTTP/1.0": scenario("GET /path HTTP/1.0\r\nHost: a\r\n\r\n"),
  "HTTP/1.0 without a Host": scenario("GET /path HTTP/1.0\r\n\r\n"),
  "HTTP/1.0 that is kept": scenario(
    "GET /path HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "HTTP/1.0 with `connection: keep-alive`",
  ),
  "HTTP/1.0 and a stream": scenario("GET /stream HTTP/1.0\r\nHost: a\r\n\r\n"),
  "garbage": scenario("garbage\r\n\r\n"),
  "the preface of HTTP/2": scenario("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "| HTTP/2 |"),
};

const HEADERS: Record<string, RequestScenario> = {
  "many headers": scenario(get("/headers", `${H}${many(100)}`)),
  "more than 128": scenario(get("/headers", `${H}${many(130)}`), "more than 128 headers"),
  "long headers": scenario(get("/headers", `${H}X: ${"x".repeat(10_000)}\r\n`)),
  "longer ones": scenario(get("/headers", `${H}X: ${"x".repeat(20_000)}\r\n`), "headers of 20 000 bytes"),
  "headers said twice": scenario(get("/headers", `${H}X: 1\r\nx: 2\r\nAccept: a\r\nAccept: b\r\n`)),
  "headers that are not joined": scenario(get("/headers", `${H}User-Agent: a\r\nUser-Agent: b\r\nReferer: c\r\n`)),
  "authorization said twice": scenario(get("/headers", `${H}Authorization: a\r\nAuthorization: b\r\n`)),
  "cookies in two lines": scenario(get("/headers", `${H}Cookie: a=b\r\nCookie: c=d\r\n`)),
  "a header that is empty": scenario(get("/headers", `${H}X:\r\nY: \t \r\n`)),
  "a header with tabs": scenario(get("/headers", `${H}X:\ta\tb\t\r\n`)),
  "a header that is not ASCII": scenario(get("/headers", `${H}X: \xe4\r\n`)),
  "a header with a NUL": scenario(get("/headers", `${H}X: a\0b\r\n`)),
  "a header's name that is none": scenario(get("/headers", `${H}X y: a\r\n`)),
  "a line without a colon": scenario(get("/headers", `${H}X\r\n`)),
  "a folded line": scenario(get("/headers", `${H}X: a\r\n b\r\n`)),
  "headers that are set": scenario(get("/set")),
  "a request as JSON": scenario(get("/stringify")),
  "the properties of a request": scenario(get("/properties"), "`request.redirect` is"),
  "an expectation that is none": scenario(post("/body", "hello", `${H}Expect: miracles\r\n`)),
  "an expectation of no body": scenario(get("/", `${H}Expect: 100-continue\r\n`)),
  "LF": scenario(`GET / HTTP/1.1\nHost: a\n\n`, "a line may end with LF alone"),
  "a WebSocket that is refused": scenario(
    get("/forbidden", `${H}${upgrade}`),
    "a request for a WebSocket, or for another protocol",
  ),
  "a WebSocket with a body": scenario(post("/", "hello", `${H}${upgrade}`)),
  "another protocol": scenario(get("/", asks("h2c")), "a request for a WebSocket, or for another protocol"),
  "another protocol with a body": scenario(
    post("/body", "hello", asks("h2c")),
    "a request for another protocol that has a body",
  ),
};

const parts = (...sizes: number[]) => sizes.map((size) => `${size.toString(16)}\r\n${"x".repeat(size)}\r\n`).join("");
const MULTIPART = '--b\r\nContent-Disposition: form-data; name="c"\r\n\r\nhello\r\n--b--\r\n';

const BODIES: Record<string, RequestScenario> = {
  "a POST": scenario(post("/body", "hello")),
  "an empty POST": scenario(post("/body", "")),
  "a POST without a length": scenario(get("/body", H, "POST")),
  "a POST of 100 000 bytes": scenario(post("/count", "x".repeat(100_000))),
  "a POST in chunks": scenario(chunked("/body", "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n")),
  "a POST in chunks of all sizes": scenario(chunked("/count", `${parts(1, 10, 100, 1_000, 10_000)}0\r\n\r\n`)),
  "a POST in no chunks": scenario(chunked("/body", "0\r\n\r\n")),
  "chunks with sizes in capitals": scenario(chunked("/body", "A\r\n0123456789\r\n0\r\n\r\n")),
  "a GET with a body": scenario(post("/body", "hello", H, "GET")),
  "a GET with chunks": scenario(chunked("/body", "5\r\nhello\r\n0\r\n\r\n", H, "GET")),
  "a HEAD with a body": scenario(post("/body", "hello", H, "HEAD")),
  "a body that is not read": scenario(
    post("/unread", "x".repeat(1_000)),
    "the connection of a request whose body is not read",
    "both",
  ),
  "a body that is cancelled": scenario(post("/cancel", "x".repeat(1_000))),
  "a body of which a part is read, and the rest cancelled": scenario(post("/part-cancel", "x".repeat(1_000))),
  "a body that is used twice": scenario(post("/twice", "hello")),
  "a body as JSON": scenario(post("/json", '{"a":1}')),
  "a body that is not JSON": scenario(post("/json", "{")),
  "a body as a form": scenario(post("/form", "a=b&c=d", `${H}Content-Type: application/x-www-form-urlencoded\r\n`)),
  "a body as a form in parts": scenario(
    post("/form", MULTIPART, `${H}Content-Type: multipart/form-data; boundary=b\r\n`),
  ),
  "a body that is no form": scenario(post("/form", "a=b")),
  "a body as bytes": scenario(post("/as-bytes", "h\xe4llo")),
  "a body as a buffer": scenario(post("/as-buffer", "hello")),
  "a body as a blob": scenario(post("/as-blob", "hello", `${H}Content-Type: text/x-y\r\n`)),
  "a body that is iterated": scenario(post("/iterate", "hello")),
  "a body that is not UTF-8": scenario(post("/body", "h\xe4llo")),
  "a body that is unpacked": scenario(post("/inflate", deflateSync("hello").toString("latin1"))),
  "a body that is teed": scenario(post("/tee", "hello")),
  "a body that is echoed": scenario(post("/echo", "hello")),
  "a body that is echoed in chunks": scenario(chunked("/echo", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")),
  "a body that is piped through": scenario(post("/upper", "hello")),
  "a clone": scenario(post("/clone", "hello")),
  "a request of a request": scenario(post("/again", "hello")),
  "a response that says its request's headers": scenario(post("/echo-headers", "hello", `${H}X-Y: z\r\n`)),
  "a length twice": scenario(
    post("/body", "hello", `${H}Content-Length: 5\r\n`),
    "a `content-length` may be said twice",
  ),
  "two lengths": scenario(post("/body", "hello", `${H}Content-Length: 6\r\n`)),
  "a length that is none": scenario("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
  "a length with a sign": scenario("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
  "a length and chunks": scenario(chunked("/body", "0\r\n\r\n", `${H}Content-Length: 5\r\n`)),
  "an encoding that is not chunked": scenario(`POST /body HTTP/1.1\r\n${H}Transfer-Encoding: xchunked\r\n\r\n`),
  "two encodings": scenario(`POST /body HTTP/1.1\r\n${H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`),
  "a wrong chunk": scenario(chunked("/body", "x\r\nhello\r\n0\r\n\r\n"), "chunks that are wrong"),
  "a chunk that is too long": scenario(chunked("/body", "3\r\nhello\r\n0\r\n\r\n"), "chunks that are wrong"),
};

const RESPONSES: Record<string, RequestScenario> = {
  "an error": scenario(get("/throw")),
  "an error that is a string": scenario(get("/throw-text")),
  "a promise that rejects": scenario(get("/reject")),
  "nothing": scenario(get("/nothing")),
  "a promise of nothing": scenario(get("/later-nothing")),
  "a text": scenario(get("/string")),
  "what looks like a response": scenario(get("/alike"), "a response that is not an instance", "both"),
  "Response.error()": scenario(get("/error")),
  "a response that is used": scenario(get("/used")),
  "a body that is locked": scenario(get("/locked")),
  "a stream": scenario(get("/stream")),
  "a stream of nothing": scenario(get("/empty-stream")),
  "a stream of empty parts": scenario(get("/empty-parts")),
  "a stream with its length": scenario(get("/length")),
  "a stream that is too short": scenario(get("/short"), "shorter or longer than its `content-length`"),
  "a stream that is too long": scenario(get("/long"), "shorter or longer than its `content-length`"),
  "a stream that fails at once": scenario(get("/fail"), "a stream that fails before"),
  "a stream of text": scenario(get("/text-stream"), "a stream that fails before"),
  "a stream of bytes of one's own": scenario(get("/byte-stream")),
  "a stream of 200 000 bytes": scenario(get("/large-stream")),
  "a text of 200 000 bytes": scenario(get("/large-text")),
  "a text that is not ASCII": scenario(get("/unicode")),
  "a redirection": scenario(get("/redirect")),
  "a redirection of one's own": scenario(get("/redirect-303")),
  "JSON": scenario(get("/response-json")),
  "a blob": scenario(get("/blob")),
  "a form": scenario(get("/url-form")),
  "cookies": scenario(get("/cookies")),
  "bytes": scenario(get("/bytes")),
  "a buffer": scenario(get("/buffer")),
  "bytes of a part": scenario(get("/view")),
  "headers of one's own": scenario(get("/own-headers")),
  "headers that are changed later": scenario(get("/late-headers")),
  "a header that is not ASCII in a response": scenario(get("/latin1")),
  "a connection of one's own": scenario(get("/close"), "a handler's own `connection: close`"),
  "a status text of one's own": {
    ...scenario(get("/status-text"), "the status text of a response"),
    reason: true,
  },
  "a date of one's own": scenario(get("/date")),
  "a type of one's own": scenario(get("/type")),
  "no type": scenario(get("/no-type")),
  "a response of a response": scenario(get("/rewrapped")),
  "a subclass of Response": scenario(get("/subclass")),
  "a range": scenario(get("/range", `${H}Range: bytes=2-4\r\n`)),
  "a tag that matches": scenario(get("/tag", `${H}If-None-Match: "x"\r\n`)),
  "a tag that does not": scenario(get("/tag", `${H}If-None-Match: "y"\r\n`)),
  "a 304 with a length": framed(get("/304"), "the `content-length` of a 304"),
  "a wrong length": scenario(get("/wrong-length")),
  "a wrong encoding": scenario(get("/wrong-encoding")),
};

/** Each status, and what of a body comes with it. */
const STATUSES: Record<string, RequestScenario> = Object.fromEntries(
  [200, 201, 202, 203, 204, 205, 206, 300, 301, 304, 400, 404, 418, 429, 500, 503, 599, 99, 101, 600].map((status) => {
    const rows: Record<number, string> = {
      101: "a response with the status 101",
      205: "a response with the status 205",
    };
    return [`the status ${status}`, framed(get(`/status/${status}`), rows[status])];
  }),
);

/** What differs for some of the bodies below. */
const FRAMING_ROWS: Record<string, string> = {
  "GET text chunked": "`transfer-encoding: chunked`",
  "HEAD text wrong": "a wrong `content-length` of a text",
  "HEAD bytes wrong": "a wrong `content-length` of a text",
  "GET stream wrong": "shorter or longer than its `content-length`",
};

/** Bodies of all kinds and the headers that say their length, asked for by GET and HEAD. */
const LENGTHS: Record<string, RequestScenario> = Object.fromEntries([
  ["text", "none"],
  ["text", "right"],
  ["text", "wrong"],
  ["text", "chunked"],
  ["empty", "none"],
  ["empty", "right"],
  ["bytes", "none"],
  ["bytes", "wrong"],
  ["null", "none"],
  ["null", "right"],
  ["null", "wrong"],
  ["stream", "none"],
  ["stream", "right"],
  ["stream", "wrong"],
  ["stream", "chunked"],
  ["empty-stream", "none"],
  ["empty-stream", "right"],
  ["recovered", "none"],
  ["blob", "none"],
].flatMap(([body, length]) =>
  ["GET", "HEAD"].map((method) => {
    const text = get(`/framing/${body}/${length}`, H, method);
    return [
      `${method} of a body "${body}" whose length is "${length}"`,
      framed(text, FRAMING_ROWS[`${method} ${body} ${length}`]),
    ];
  })
));

/** Streams of some parts, some time apart, that end or fail. */
const STREAMS: Record<string, RequestScenario> = Object.fromEntries(
  [0, 1, 2, 3].flatMap((count) =>
    [0, 1, 25].flatMap((delay) =>
      ["end", "fail"].map((last) => {
        const row = delay === 0 && last === "fail" ? "a stream that fails before" : undefined;
        return [
          `${count} parts, ${delay} ms apart, that ${last}`,
          scenario(get(`/parts/${count}/${delay}/${last}`), row),
        ];
      })
    )
  ),
);

/** What a client accepts, what the response is, and its method. */
const COMPRESSIONS: [accepted: string, response: string, method?: string][] = [
  ["gzip", ""],
  ["br", ""],
  ["gzip, deflate, br", ""],
  ["gzip, deflate, br, zstd", ""],
  ["zstd, gzip, deflate, br", ""],
  ["br, compress", ""],
  ["compress, x-gzip", ""],
  ["xbr, gzipx", ""],
  ["br;q=0, gzip;q=0", ""],
  ["gzip;q=1.0, br;q=0.9", ""],
  ["gzip;q=0.5, br;q=0.9", ""],
  ["identity;q=1.0, gzip;q=0.9, br;q=0.9", ""],
  ["identity, gzip", ""],
  ["gzip, br;q=2", ""],
  ["GZIP", ""],
  ["*", ""],
  ["", ""],
  ["\x81", ""],
  ["gzip", "length=63"],
  ["gzip", "length=64"],
  ["gzip", "length=0"],
  ["gzip", "type=text/fake"],
  ["gzip", "type=TEXT/Html; charset=utf-8"],
  ["gzip", "type=application/json"],
  ["gzip", "type=application/octet-stream"],
  ["gzip", "type=image/svg%2Bxml"],
  ["gzip", "type="],
  ["gzip", "content-range=1"],
  ["gzip", "content-encoding=random"],
  ["gzip", "cache-control=no-transform"],
  ["gzip", "cache-control=public, no-transform"],
  ["gzip", "cache-control=max-age=60"],
  ["gzip", 'etag="x"'],
  ["gzip", 'etag=W/"x"'],
  ["gzip", "vary=Origin"],
  ["gzip", "vary=accept-encoding"],
  ["gzip", "content-length=1024"],
  ["br", "stream=1"],
  ["gzip", "stream=1&length=10"],
  ["gzip", "status=404"],
  ["gzip", "fail=1"],
  ["gzip", "", "HEAD"],
  ["gzip", "stream=1", "HEAD"],
];
const COMPRESSED: Record<string, RequestScenario> = Object.fromEntries(
  COMPRESSIONS.map(([accepted, response, method = "GET"]) => [
    `${method}: a client accepts "${accepted}", and the response has "${response || "nothing else"}"`,
    framed(
      get(
        `/compress?${response.replaceAll(" ", "%20").replaceAll('"', "%22")}`,
        `${H}Accept-Encoding: ${accepted}\r\n`,
        method,
      ),
    ),
  ]),
);

export const REQUESTS: Record<string, RequestScenario> = {
  ...METHODS,
  ...TARGETS,
  ...HEADERS,
  ...BODIES,
  ...RESPONSES,
  ...STATUSES,
  ...LENGTHS,
  ...STREAMS,
  ...COMPRESSED,
};

const encode = (text: string) => new TextEncoder().encode(text);
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function stream(...parts: unknown[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const bytes = parts.map((part) => part === 1 ? "text" : encode(String(part)));
  return ReadableStream.from(bytes) as unknown as ReadableStream<Uint8Array<ArrayBuffer>>;
}

async function* later(count: number, delay: number, fails: boolean): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let index = 0; index < count; index++) {
    if (delay > 0) await sleep(delay);
    yield encode(`part ${index}`);
  }
  if (delay > 0) await sleep(delay);
  if (fails) throw new Error("failed");
}

function framedResponse(kind: string, length: string): Response {
  const text = "foo bar baz";
  const empty = kind.startsWith("empty") || kind === "null";
  const headers = new Headers({ "content-type": "text/x-y" });
  if (length === "right") headers.set("content-length", empty ? "0" : `${text.length}`);
  if (length === "wrong") headers.set("content-length", "5");
  if (length === "chunked") headers.set("transfer-encoding", "chunked");
  const bodies: Record<string, () => BodyInit | null> = {
    text: () => text,
    empty: () => "",
    bytes: () => encode(text),
    null: () => null,
    stream: () => stream(text),
    "empty-stream": () => stream(),
    recovered: () => new Response(text).body,
    blob: () => new Blob([text]),
  };
  return new Response(bodies[kind]!(), { headers });
}

function compressible({ searchParams }: URL): Response {
  const length = Number(searchParams.get("length") ?? 1_024);
  const text = LINE.repeat(100).slice(0, length);
  const headers = new Headers({ "content-type": searchParams.get("type") ?? "text/plain" });
  if (searchParams.get("type") === "") headers.delete("content-type");
  for (const name of ["content-range", "content-encoding", "cache-control", "etag", "vary", "content-length"]) {
    const value = searchParams.get(name);
    if (value !== null) headers.set(name, value);
  }
  if (searchParams.has("fail")) throw new Error(LINE.repeat(3));
  const body = searchParams.has("stream") ? stream(text.slice(0, 5), text.slice(5)) : encode(text);
  return new Response(body, { status: Number(searchParams.get("status") ?? 200), headers });
}

type Answer = (request: Request, url: URL) => unknown;
const text = (body: string) => new Response(body);

const ANSWERS: Record<string, Answer> = {
  "/body": async (request) =>
    text(`${request.method} [${await request.text()}] ${request.body === null} ${request.bodyUsed}`),
  "/count": async (request) => text(`${(await request.arrayBuffer()).byteLength}`),
  "/unread": () => text("unread"),
  "/cancel": async (request) => {
    await request.body!.cancel();
    return text(`${request.bodyUsed}`);
  },
  "/part-cancel": async (request) => {
    const reader = request.body!.getReader({ mode: "byob" });
    const { value } = await reader.read(new Uint8Array(10));
    await reader.cancel();
    return text(`${value!.length} ${request.bodyUsed}`);
  },
  "/twice": async (request) => {
    await request.text();
    return text(await request.text());
  },
  "/json": async (request) => Response.json(await request.json()),
  "/form": async (request) => text(String((await request.formData()).get("c"))),
  "/as-bytes": async (request) => text(String(await request.bytes())),
  "/as-buffer": async (request) => text(`${(await request.arrayBuffer()).byteLength}`),
  "/as-blob": async (request) => {
    const blob = await request.blob();
    return text(`${blob.type} ${await blob.text()}`);
  },
  "/iterate": async (request) => {
    let length = 0;
    for await (const bytes of request.body!) length += bytes.length;
    return text(`${length} ${request.bodyUsed}`);
  },
  "/inflate": async (request) =>
    text(await new Response(request.body!.pipeThrough(new DecompressionStream("deflate"))).text()),
  "/tee": async (request) => {
    const both = request.body!.tee().map((body) => new Response(body).text());
    return text((await Promise.all(both)).join());
  },
  "/echo": (request) => new Response(request.body),
  "/upper": (request) => {
    const upper = new TransformStream<string, string>({ transform: (part, c) => c.enqueue(part.toUpperCase()) });
    const body = request.body!.pipeThrough(new TextDecoderStream()).pipeThrough(upper);
    return new Response(body.pipeThrough(new TextEncoderStream()));
  },
  "/clone": async (request) => text(await request.clone().text() + await request.text()),
  "/again": async (request) => {
    const again = new Request(request, { headers: { x: "y" } });
    return text(`${again.method} ${again.url} ${[...again.headers]} ${await again.text()} ${request.bodyUsed}`);
  },
  "/echo-headers": (request) => new Response(request.body, { headers: { "x-y": request.headers.get("x-y")! } }),
  "/headers": (request) => text(JSON.stringify([...request.headers])),
  "/set": (request) => {
    request.headers.set("x", "y");
    return text("set");
  },
  "/stringify": (request) => text(JSON.stringify(request) + Object.prototype.toString.call(request)),
  "/properties": (request) => {
    const { method, bodyUsed, redirect, body } = request;
    const isOne = [
      request instanceof Request,
      request.headers instanceof Headers,
      request.signal instanceof AbortSignal,
    ];
    return Response.json([method, bodyUsed, redirect, body, isOne, request.signal.aborted, Object.keys(request)]);
  },
  "/forbidden": () => new Response("forbidden", { status: 403 }),
  "/throw": () => {
    throw new Error("thrown");
  },
  "/throw-text": () => {
    throw "thrown";
  },
  "/reject": () => Promise.reject(new TypeError("rejected")),
  "/nothing": () => undefined,
  "/later-nothing": () => Promise.resolve(),
  "/string": () => "a text",
  "/alike": () => ({ status: 200, statusText: "", headers: new Headers(), body: null, bodyUsed: false }),
  "/error": () => Response.error(),
  "/used": async () => {
    const response = text("used");
    await response.text();
    return response;
  },
  "/locked": () => {
    const response = new Response(stream("locked"));
    response.body!.getReader();
    return response;
  },
  "/text": () => text("text"),
  "/stream": () => new Response(stream("one", "two")),
  "/empty-stream": () => new Response(stream()),
  "/empty-parts": () => new Response(stream("", "a", "", "b", "")),
  "/length": () => new Response(stream("12345"), { headers: { "content-length": "5" } }),
  "/short": () => new Response(stream("123"), { headers: { "content-length": "5" } }),
  "/long": () => new Response(stream("12345678"), { headers: { "content-length": "5" } }),
  "/fail": () => new Response(new ReadableStream({ pull: () => Promise.reject(new Error("failed")) })),
  "/text-stream": () => new Response(stream(1)),
  "/byte-stream": () => {
    let count = 0;
    const pull = (controller: ReadableByteStreamController) => {
      if (count++ === 3) controller.close();
      else controller.enqueue(encode(`${count}`));
      controller.byobRequest?.respond(0);
    };
    return new Response(new ReadableStream({ type: "bytes", pull }));
  },
  "/large-stream": () => new Response(stream(..."abcd".split("").map((letter) => letter.repeat(50_000)))),
  "/large-text": () => text(LINE.repeat(5_000)),
  "/unicode": () => text("ä€😀"),
  "/redirect": () => Response.redirect("http://b/c"),
  "/redirect-303": () => new Response(null, { status: 303, headers: { location: "/x" } }),
  "/response-json": () => Response.json({ a: [1, null] }, { status: 201 }),
  "/blob": () => new Response(new Blob(["a", "b"], { type: "text/x-y" })),
  "/url-form": () => new Response(new URLSearchParams({ a: "b c" })),
  "/cookies": () => new Response("cookies", { headers: [["set-cookie", "a=b"], ["set-cookie", "c=d"]] }),
  "/bytes": () => new Response(new Uint8Array([65, 66])),
  "/buffer": () => new Response(new Uint8Array([65, 66]).buffer),
  "/view": () => new Response(new Uint8Array([65, 66, 67, 68]).subarray(1, 3)),
  "/own-headers": () => new Response("own", { headers: { "x-a": "b, c", "X-D": "", "content-language": "de" } }),
  "/late-headers": () => {
    const response = text("late");
    response.headers.append("x-a", "b");
    response.headers.delete("content-type");
    return response;
  },
  "/latin1": () => new Response("latin1", { headers: { "x-a": "\xe4" } }),
  "/close": () => new Response("close", { headers: { connection: "close" } }),
  "/status-text": () => new Response("text", { statusText: "As told" }),
  "/date": () => new Response("date", { headers: { date: "Thu, 01 Jan 1970 00:00:00 GMT" } }),
  "/type": () => new Response("type", { headers: { "content-type": "text/x-y" } }),
  "/no-type": () => new Response(encode("no type")),
  "/rewrapped": () => {
    const { body, headers } = text("rewrapped");
    return new Response(body, { headers });
  },
  "/subclass": () => {
    class Mine extends Response {}
    return new Mine("mine", { headers: { "x-a": "b" } });
  },
  "/range": (request) => {
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.get("range")!)!;
    const headers = { "content-range": `bytes ${from}-${to}/10`, "accept-ranges": "bytes" };
    return new Response("0123456789".slice(Number(from), Number(to) + 1), { status: 206, headers });
  },
  "/tag": (request) => {
    const headers = { etag: '"x"' };
    return request.headers.get("if-none-match") === '"x"'
      ? new Response(null, { status: 304, headers })
      : new Response("tagged", { headers });
  },
  "/slow": async () => {
    await sleep(50);
    return text("slow");
  },
  "/304": () => new Response(null, { status: 304, headers: { "content-length": "5" } }),
  "/wrong-length": () => new Response("text", { headers: { "content-length": "100" } }),
  "/wrong-encoding": () => new Response("text", { headers: { "transfer-encoding": "gzip" } }),
  "/compress": (_, url) => compressible(url),
};

/** Answers all of the requests. */
export const handler = (request: Request): Response | Promise<Response> => {
  // The handler sees a URL that is none if that is what was sent.
  const url = URL.canParse(request.url) ? new URL(request.url) : new URL("http://none/");
  const [, kind, first, second, third] = url.pathname.split("/");
  if (kind === "status") {
    const status = Number(first);
    return new Response([101, 204, 205, 304].includes(status) ? null : "status", { status });
  }
  if (kind === "framing") return framedResponse(first!, second!);
  if (kind === "parts") {
    return new Response(ReadableStream.from(later(Number(first), Number(second), third === "fail")));
  }
  const answer = request.method === "CONNECT" ? undefined : ANSWERS[url.pathname];
  if (answer !== undefined) return answer(request, url) as Response;
  // The port is another for each server.
  return text(`${request.method} ${request.url.replace(/localhost:\d+/, "localhost")}`);
};

export const onError = (error: unknown): Response => {
  const name = (error as Partial<Error> | undefined)?.constructor?.name;
  return new Response(`sorry: ${name} ${"and so on ".repeat(10)}`, { status: 503 });
};
