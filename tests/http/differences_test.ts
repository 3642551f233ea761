// The same requests to Deno.serve itself and to both engines of serveHttp: what differs is in the table of "Migrating".
import { assert, assertEquals } from "@std/assert";
import { listen } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { within } from "../kit/process.ts";

const TABLE = Deno.readTextFileSync(new URL("../../docs/migrating.md", import.meta.url));
const H = "Host: a\r\n";

const get = (path: string, headers = H, method = "GET") => `${method} ${path} HTTP/1.1\r\n${headers}\r\n`;
const post = (path: string, body: string, headers = H, method = "POST") =>
  `${method} ${path} HTTP/1.1\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`;
const chunked = (path: string, chunks: string, headers = H) =>
  `POST ${path} HTTP/1.1\r\n${headers}Transfer-Encoding: chunked\r\n\r\n${chunks}`;
const many = (count: number) => Array.from({ length: count }, (_, index) => `h${index}: v\r\n`).join("");
const upgrade = HANDSHAKE.map((line) => `${line}\r\n`).join("");

/** Requests, and the row of the table if `node:http`, or both engines, answer otherwise. */
const REQUESTS: Record<string, [text: string, row?: string, both?: true]> = {
  "a GET": [get("/a?b=c")],
  "a GET with an odd path": [get("/%20a//b;c=d?e=%ff&f=[g]")],
  "a HEAD": [get("/text", H, "HEAD")],
  "a HEAD of bytes": [get("/bytes", H, "HEAD")],
  "a HEAD of a stream": [get("/stream", H, "HEAD")],
  "a DELETE": [get("/", H, "DELETE")],
  "an OPTIONS": [get("*", H, "OPTIONS")],
  "a TRACE": [get("/", H, "TRACE")],
  "a PATCH": [post("/body", "hello", H, "PATCH")],
  "a QUERY": [post("/body", "hello", H, "QUERY")],
  "a method of its own": [get("/", H, "BREW"), "methods may have any name"],
  "a POST": [post("/body", "hello")],
  "an empty POST": [post("/body", "")],
  "a POST without a length": [get("/body", H, "POST")],
  "a POST in chunks": [chunked("/body", "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n")],
  "a GET with a body": [post("/body", "hello", H, "GET")],
  "a HEAD with a body": [post("/body", "hello", H, "HEAD")],
  "two at once": [get("/1") + get("/2")],
  "a body that is not read": [
    post("/unread", "x".repeat(1_000)),
    "the connection of a request whose body is not read",
    true,
  ],
  "a body that is cancelled": [post("/cancel", "x".repeat(1_000))],
  "a body that is used twice": [post("/twice", "hello")],
  "a body as JSON": [post("/json", '{"a":1}')],
  "a body that is not JSON": [post("/json", "{")],
  "a body as a form": [post("/form", "a=b&c=d", `${H}Content-Type: application/x-www-form-urlencoded\r\n`)],
  "a body that is echoed": [post("/echo", "hello")],
  "a clone": [post("/clone", "hello")],
  "no Host": [get("/path", ""), "HTTP/1.1 without a Host line"],
  "an empty Host": [get("/path", "Host: \r\n")],
  "a Host with a dot at the end": [get("/", "Host: example.org.\r\n")],
  "a Host with a port": [get("/", "Host: a:8080\r\n")],
  "a Host that is normalised": [get("/a/../b", "Host: A:80\r\n"), "the URL of a request is as it was sent"],
  "two Hosts": [get("/", `${H}Host: b\r\n`)],
  "an absolute target": [get("http://x/p")],
  "an absolute target of https": [get("https://x/p")],
  "a target that is a star": [get("*")],
  "a target without a slash": [get("path")],
  "a target that is not ASCII": [get("/\xe4")],
  "many headers": [get("/headers", `${H}${many(100)}`)],
  "more than 128": [get("/headers", `${H}${many(130)}`), "more than 128 headers"],
  "long headers": [get("/headers", `${H}X: ${"x".repeat(10_000)}\r\n`)],
  "longer ones": [get("/headers", `${H}X: ${"x".repeat(20_000)}\r\n`), "headers of 20 000 bytes"],
  "headers said twice": [get("/headers", `${H}X: 1\r\nx: 2\r\nAccept: a\r\nAccept: b\r\n`)],
  "cookies in two lines": [get("/headers", `${H}Cookie: a=b\r\nCookie: c=d\r\n`)],
  "a header that is empty": [get("/headers", `${H}X:\r\nY: \t \r\n`)],
  "a header that is not ASCII": [get("/headers", `${H}X: \xe4\r\n`)],
  "headers that are set": [get("/set")],
  "a request as JSON": [get("/stringify")],
  "an expectation that is none": [post("/body", "hello", `${H}Expect: miracles\r\n`)],
  "LF": [`GET / HTTP/1.1\nHost: a\n\n`, "a line may end with LF alone"],
  "a length twice": [post("/body", "hello", `${H}Content-Length: 5\r\n`), "a `content-length` may be said twice"],
  "a wrong chunk": [chunked("/body", "x\r\nhello\r\n0\r\n\r\n"), "chunks that are wrong"],
  "garbage": ["garbage\r\n\r\n"],
  "another version": ["GET / HTTP/2.5\r\n\r\n"],
  "HTTP/1.0": ["GET /path HTTP/1.0\r\nHost: a\r\n\r\n"],
  "a WebSocket that is refused": [
    get("/forbidden", `${H}${upgrade}`),
    "a request for a WebSocket, or for another protocol",
  ],
  "a WebSocket with a body": [post("/", "hello", `${H}${upgrade}`)],
  "another protocol": [
    get("/", `${H}Connection: Upgrade\r\nUpgrade: h2c\r\n`),
    "a request for a WebSocket, or for another protocol",
  ],
  "another protocol with a body": [
    post("/body", "hello", `${H}Connection: Upgrade\r\nUpgrade: h2c\r\n`),
    "a request for another protocol that has a body",
  ],
  "an error": [get("/throw")],
  "nothing": [get("/nothing")],
  "Response.error()": [get("/error")],
  "a response that is used": [get("/used")],
  "a body that is locked": [get("/locked")],
  "a stream": [get("/stream")],
  "a stream of nothing": [get("/empty-stream")],
  "a stream with its length": [get("/length")],
  "a stream that is too short": [get("/short"), "shorter or longer than its `content-length`"],
  "a stream that is too long": [get("/long"), "shorter or longer than its `content-length`"],
  "a stream that fails at once": [get("/fail"), "a stream that fails before its first part"],
  "a stream of text": [get("/text-stream"), "a stream that fails before its first part"],
  "a stream that fails": [get("/fail-later")],
  "no content": [get("/204")],
  "a status of one's own": [get("/599")],
  "a redirection": [get("/redirect")],
  "cookies": [get("/cookies")],
  "what follows a last request": [get("/slow", `${H}Connection: close\r\n`) + get("/never")],
  "bytes": [get("/bytes")],
  "a wrong length": [get("/wrong-length")],
  "a wrong encoding": [get("/wrong-encoding")],
};

function stream(...parts: unknown[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const bytes = parts.map((part) => part === 1 ? "text" : new TextEncoder().encode(String(part)));
  return ReadableStream.from(bytes) as unknown as ReadableStream<Uint8Array<ArrayBuffer>>;
}

const handler = async (request: Request): Promise<Response> => {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/body":
      return new Response(`${request.method} [${await request.text()}] ${request.body === null} ${request.bodyUsed}`);
    case "/unread":
      return new Response("unread");
    case "/cancel":
      await request.body!.cancel();
      return new Response(`${request.bodyUsed}`);
    case "/twice":
      await request.text();
      return new Response(await request.text());
    case "/json":
      return Response.json(await request.json());
    case "/form":
      return new Response(String((await request.formData()).get("c")));
    case "/echo":
      return new Response(request.body);
    case "/clone":
      return new Response(await request.clone().text() + await request.text());
    case "/headers":
      return new Response(JSON.stringify([...request.headers]));
    case "/set":
      request.headers.set("x", "y");
      return new Response("set");
    case "/stringify":
      return new Response(JSON.stringify(request) + Object.prototype.toString.call(request));
    case "/forbidden":
      return new Response("forbidden", { status: 403 });
    case "/throw":
      throw new Error("thrown");
    case "/nothing":
      return undefined as unknown as Response;
    case "/error":
      return Response.error();
    case "/used": {
      const response = new Response("used");
      await response.text();
      return response;
    }
    case "/locked": {
      const response = new Response(stream("locked"));
      response.body!.getReader();
      return response;
    }
    case "/text":
      return new Response("text");
    case "/stream":
      return new Response(stream("one", "two"));
    case "/empty-stream":
      return new Response(stream());
    case "/length":
      return new Response(stream("12345"), { headers: { "content-length": "5" } });
    case "/short":
      return new Response(stream("123"), { headers: { "content-length": "5" } });
    case "/long":
      return new Response(stream("12345678"), { headers: { "content-length": "5" } });
    case "/fail":
      return new Response(new ReadableStream({ pull: () => Promise.reject(new Error("failed")) }));
    case "/text-stream":
      return new Response(stream(1));
    case "/fail-later":
      return new Response(ReadableStream.from((async function* () {
        yield new TextEncoder().encode("begun");
        await new Promise((resolve) => setTimeout(resolve, 100));
        throw new Error("failed");
      })()));
    case "/204":
      return new Response(null, { status: 204 });
    case "/599":
      return new Response("599", { status: 599 });
    case "/redirect":
      return Response.redirect("http://b/c");
    case "/cookies":
      return new Response("cookies", { headers: [["set-cookie", "a=b"], ["set-cookie", "c=d"]] });
    case "/slow":
      await new Promise((resolve) => setTimeout(resolve, 50));
      return new Response("slow");
    case "/bytes":
      return new Response(new Uint8Array([65, 66]));
    case "/wrong-length":
      return new Response("text", { headers: { "content-length": "100" } });
    case "/wrong-encoding":
      return new Response("text", { headers: { "transfer-encoding": "gzip" } });
    default:
      // The port is another for each server.
      return new Response(`${request.method} ${request.url.replace(/localhost:\d+/, "localhost")}`);
  }
};

const onError = (error: unknown) => new Response(`sorry: ${(error as Error).constructor.name}`, { status: 503 });

/** Headers that say the same in other words, or how the connection goes on. */
const SKIPPED = /^(date|connection|keep-alive|content-length|transfer-encoding|vary|server)$/;

/** What a server answers to a request and one that ends the connection: statuses, headers and bodies, or where it breaks off. */
async function answers(port: number, text: string): Promise<string[]> {
  using client = await RawClient.connect(port);
  const bytes = Uint8Array.from(text + get("/end", `${H}Connection: close\r\n`), (char) => char.charCodeAt(0));
  await client.write(bytes);
  let rest = await client.rest();
  const said: string[] = [];
  const isHead = text.startsWith("HEAD");
  while (rest !== "") {
    const [head] = rest.split("\r\n\r\n", 1);
    const status = Number(head!.split(" ")[1]);
    const headers = head!.split("\r\n").slice(1).map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()));
    const kept = headers.filter((line) => !SKIPPED.test(line.split(":")[0]!)).sort();
    rest = rest.slice(head!.length + 4);
    const length = headers.find((line) => line.startsWith("content-length:"))?.split(": ")[1];
    let body = "";
    if (isHead && said.length === 0 || status === 204 || status === 304) body = "";
    else if (
      headers.includes("transfer-encoding: chunked")
    ) {
      for (;;) {
        const size = /^([0-9a-f]+)\r\n/i.exec(rest);
        if (size === null) {
          [body, rest] = [`${body}<broken off>`, ""];
          break;
        }
        const count = parseInt(size[1]!, 16);
        body += rest.slice(size[0].length, size[0].length + count);
        rest = rest.slice(size[0].length + count + 2);
        if (count === 0) break;
      }
    } else if (length === undefined) [body, rest] = [rest, ""];
    else {
      body = rest.length < Number(length) ? "<broken off>" : rest.slice(0, Number(length));
      rest = rest.slice(Number(length));
    }
    // A refusal may say why, or not.
    if (status === 400 || status === 431) body = "";
    said.push([status, ...status === 400 ? [] : kept, body].join("\n"));
  }
  return said;
}

Deno.test({
  name: "requests are answered as by Deno.serve, except for what the table of differences says",
  // Older ones answer otherwise themselves, and end over some of it.
  ignore: !canAdoptResource() || Deno.version.deno.localeCompare("2.9.6", "en", { numeric: true }) < 0,
  async fn(test) {
    const reference = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {}, onError }, handler);
    const serve = (engine: "auto" | "node:http") => {
      const listener = listen({ hostname: "127.0.0.1", port: 0 });
      return {
        port: listener.addr.port,
        server: serveHttp(listener, handler, { engine, onError, shutdownTimeout: 100 }),
      };
    };
    const [auto, node] = [serve("auto"), serve("node:http")];
    assertEquals([auto.server.engine, node.server.engine], ["Deno.serve", "node:http"]);
    for (const [name, [text, row, both = false]] of Object.entries(REQUESTS)) {
      await test.step(name, async () => {
        const expected = await within(20_000, answers(reference.addr.port, text));
        const byDeno = await within(20_000, answers(auto.port, text));
        const answered = await within(20_000, answers(node.port, text));
        assertEquals(byDeno, both ? answered : expected, "Deno.serve");
        if (row === undefined) return assertEquals(answered, expected, "node:http");
        assert(TABLE.includes(row), `The table has no row "${row}"`);
        assert(JSON.stringify(answered) !== JSON.stringify(expected), `The row "${row}" is not needed any more`);
      });
    }
    await Promise.all([auto.server.shutdown(), node.server.shutdown(), reference.shutdown()]);
  },
});
