// Requests whose end two servers might see in different places. The answers of both engines, and of Deno.serve itself, which
// is what the engine of that name is held to.
import { assertEquals } from "@std/assert";
import type { HttpHandler } from "@winsock/handoff/http";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { RawClient } from "../kit/http_client.ts";
import { start } from "../kit/http_server.ts";
import { within } from "../kit/process.ts";

const CHUNKED = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/** What follows the first line of a request and its Host, and the answers by `node:http` and by Deno's server. */
const REQUESTS: Record<string, [text: string, node: Answer, deno: Answer]> = {
  "a length and chunks": [`Content-Length: 3\r\n${CHUNKED}`, 400, 400],
  "chunks and a length": [CHUNKED.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n"), 400, 400],
  "a length twice": ["Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "hello"],
  "two lengths": ["Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, 400],
  "a list of lengths": ["Content-Length: 5, 5\r\n\r\nhello", 400, 400],
  "a length with a sign": ["Content-Length: +5\r\n\r\nhello", 400, 400],
  "a negative length": ["Content-Length: -5\r\n\r\nhello", 400, 400],
  "a length in hexadecimal": ["Content-Length: 0x5\r\n\r\nhello", 400, 400],
  "a length with a space in it": ["Content-Length: 5 5\r\n\r\nhello", 400, 400],
  "an endless length": ["Content-Length: 99999999999999999999999\r\n\r\nhello", 400, 400],
  "no length": ["Content-Length: \r\n\r\n", 400, 400],
  "xchunked": [CHUNKED.replace("chunked", "xchunked"), 400, 400],
  "chunked in a list that goes on": [CHUNKED.replace("chunked", "chunked, gzip"), 400, 400],
  "chunked twice": [CHUNKED.replace("chunked", "chunked, chunked"), 400, 400],
  "chunked in two lines": [`Transfer-Encoding: chunked\r\n${CHUNKED}`, 400, 400],
  "chunked with quotes": [CHUNKED.replace("chunked", '"chunked"'), 400, 400],
  "chunked with a tab": [CHUNKED.replace(": chunked", ":\tchunked"), "hello", "hello"],
  "identity": ["Transfer-Encoding: identity\r\n\r\n", 400, 400],
  "a space before the colon of a length": ["Content-Length : 5\r\n\r\nhello", 400, 400],
  "a space before the colon of chunked": [CHUNKED.replace(":", " :"), 400, 400],
  "a folded line": ["X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a folded chunked": [CHUNKED.replace(": chunked", ":\r\n chunked"), 400, 400],
  "a line that begins with a space": [" X: a\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a NUL in a value": ["X: a\0b\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a CR in a value": ["X: a\rb\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a line without a colon": ["X\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  // That LF ends a line is what the standard lets a server take; this one and that after it come through no proxy that does not.
  "LF at the end of a line": ["X: a\nContent-Length: 5\r\n\r\nhello", 400, "hello"],
  "LF at the end of all lines": ["Content-Length: 5\n\nhello", 400, "hello"],
  "chunks that end with LF": [CHUNKED.replace("5\r\nhello\r\n", "5\nhello\n"), 400, "nothing"],
  "an extension that ends with LF": [CHUNKED.replace("5\r\n", "5;a\n"), 400, "nothing"],
  "a chunk's length with 0x": [CHUNKED.replace("5\r", "0x5\r"), 400, "nothing"],
  "a chunk's length with a sign": [CHUNKED.replace("5\r", "+5\r"), 400, "nothing"],
  "a chunk's length that is too long": [CHUNKED.replace("5\r", "fffffffffffffffff\r"), 400, "nothing"],
  "a chunk that is longer than it says": [CHUNKED.replace("5\r", "3\r"), 400, "nothing"],
  // Those that are answered 200 end in the same place for every server that takes them.
  "a length with zeros before it": ["Content-Length: 005\r\n\r\nhello", "hello", "hello"],
  "a length with a vertical tab": ["Content-Length: \x0b5\r\n\r\nhello", 400, 400],
  "a length whose name has a NUL": ["Content-\0Length: 5\r\n\r\nhello", 400, 400],
  "a length whose name ends with a tab": ["Content-Length\t: 5\r\n\r\nhello", 400, 400],
  "a length in two lines, one of them folded": ["Content-Length: 5\r\n\t5\r\n\r\nhello", 400, 400],
  "a length of 0 and more": ["Content-Length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", "", ""],
  "chunked with a vertical tab": [CHUNKED.replace(": chunked", ": \x0bchunked"), 400, 400],
  "chunked in capitals": [CHUNKED.replace("chunked", "CHUNKED"), "hello", "hello"],
  "chunked and identity": [CHUNKED.replace("chunked", "chunked, identity"), 400, 400],
  "identity and chunked": [CHUNKED.replace("chunked", "identity, chunked"), 400, 400],
  "gzip and chunked": [CHUNKED.replace("chunked", "gzip, chunked"), "hello", "hello"],
  "chunked with a parameter": [CHUNKED.replace("chunked", "chunked;q=1"), 400, 400],
  "an empty list of encodings": [CHUNKED.replace("chunked", ""), 400, 400],
  "chunked with a comma": [CHUNKED.replace("chunked", ",chunked"), 400, 400],
  "chunked whose name has an underscore": [
    `Content-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\nhello`,
    "hello",
    "hello",
  ],
  "a chunk's length with a space after it": [CHUNKED.replace("5\r", "5 \r"), 400, "hello"],
  "a chunk's length with a space before it": [CHUNKED.replace("5\r", " 5\r"), 400, "hello"],
  "a chunk's length with an underscore": [CHUNKED.replace("5\r", "0_5\r"), 400, "nothing"],
  "a chunk's length that is empty": [CHUNKED.replace("5\r", "\r"), 400, "nothing"],
  "an extension with a CR": [CHUNKED.replace("5\r", "5;a\rb\r"), 400, "nothing"],
  "an extension": [CHUNKED.replace("5\r", "5;a=b\r"), "hello", "hello"],
  "a last chunk with zeros": [CHUNKED.replace("0\r", "000\r"), "hello", "hello"],
  "a trailer that says a length": [CHUNKED.replace("0\r\n", "0\r\nContent-Length: 100\r\n"), 400, "hello"],
  "a trailer that is no header": [CHUNKED.replace("0\r\n", "0\r\nGET /smuggled HTTP/1.1\r\n"), 400, "nothing"],
  "a chunk that ends with CR alone": [CHUNKED.replace("hello\r\n", "hello\r0"), 400, "nothing"],
  "headers that end with CR alone": ["Content-Length: 5\r\r\nhello", 400, 400],
  "a space before the end of a line": ["Content-Length: 5 \r\n\r\nhello", "hello", "hello"],
  "a name that is not ASCII": ["X-\xe4: a\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a name that is empty": [": a\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a WebSocket with a body": ["Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello", 400, 400],
  "a WebSocket with chunks": [`Connection: Upgrade\r\nUpgrade: websocket\r\n${CHUNKED}`, 400, 400],
};

/** A status, or the body of a response with status 200; nothing if the connection is closed, or nothing comes. */
type Answer = number | string;

const handler: HttpHandler = async (request) => {
  const { pathname } = new URL(request.url);
  return new Response(pathname === "/smuggled" ? "smuggled" : await request.text());
};

/** What is answered to a request. */
async function answerTo(port: number, method: string, version: string, text: string): Promise<Answer> {
  using client = await RawClient.connect(port);
  const request = `${method} / HTTP/${version}\r\nHost: a\r\n${text}`;
  await client.write(Uint8Array.from(request, (char) => char.charCodeAt(0)));
  try {
    const { status, body } = await within(20_000, client.response());
    return status === 200 ? body : status;
  } catch {
    return "nothing";
  }
}

async function answers(port: number): Promise<Record<string, Answer>> {
  const asked = Object.entries(REQUESTS).map(async ([name, [text]]) => {
    return [name, await answerTo(port, "POST", "1.1", text)] as const;
  });
  return Object.fromEntries(await Promise.all(asked));
}

const expected = (engine: 1 | 2) =>
  Object.fromEntries(Object.entries(REQUESTS).map(([name, answers]) => [name, answers[engine]]));

Deno.test("node:http: what might be taken for another request is answered 400", async () => {
  await using served = start(handler, { engine: "node:http", onError: () => {} });
  assertEquals(await answers(served.port), expected(1));
  // The standard lets a server take it for one with a body of chunks; some take it for one without.
  assertEquals(await answerTo(served.port, "POST", "1.0", CHUNKED), 400);
  assertEquals(await answerTo(served.port, "GET", "1.1", CHUNKED.replace("chunked", "xchunked")), 400);
});

Deno.test({
  name: "Deno.serve: what might be taken for another request is answered as it is by Deno's own server",
  ignore: !canAdoptResource(),
  async fn() {
    await using served = start(handler, { engine: "Deno.serve", onError: () => {} });
    const server = Deno.serve({ port: 0, onListen: () => {}, onError: () => new Response() }, (request) => {
      return handler(request, undefined as never);
    });
    const answered = await answers(served.port);
    assertEquals(answered, await answers(server.addr.port));
    assertEquals(answered, expected(2));
    assertEquals(await answerTo(served.port, "POST", "1.0", CHUNKED), 400);
    assertEquals(await answerTo(served.port, "GET", "1.1", CHUNKED.replace("chunked", "xchunked")), 400);
    await server.shutdown();
  },
});
