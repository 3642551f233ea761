// Which server serveHttp chooses, if it may.
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect, listen, Socket } from "@winsock/handoff";
import { serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { connect as connectHttp2 } from "node:http2";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { connection } from "../kit/connections.ts";
import { needs } from "../kit/needs.ts";
import { within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const IS_NEW = Deno.version.deno.localeCompare("2.9.6", "en", { numeric: true }) >= 0;
const FAST = canAdoptResource() && IS_NEW ? "Deno.serve" : "node:http";

async function* none(): AsyncGenerator<Socket> {}

async function* one(socket: Socket): AsyncGenerator<Socket> {
  yield socket;
}

Deno.test("it is Deno's own, unless an option is for Node's", async () => {
  const engines: [options: ServeHttpOptions, engine: string][] = [
    [{}, FAST],
    [{ engine: "auto" }, FAST],
    [{ engine: "auto", headersTimeout: 400_000, keepAliveTimeout: 1, maxRequestBodySize: 1 }, FAST],
    [{ engine: "node:http" }, "node:http"],
    [{ tls: CERTIFICATE }, "node:http"],
    [{ native: false }, "node:http"],
    [{ requestTimeout: 1_000 }, "node:http"],
    [{ sendTimeout: 1_000 }, "node:http"],
    [{ minSendRate: 1 }, "node:http"],
    [{ maxHeaderSize: 1_000 }, "node:http"],
  ];
  for (const [options, engine] of engines) {
    const server = serveHttp(none(), () => new Response(), options);
    assertEquals(server.engine, engine, Object.keys(options).join());
    await server.finished;
  }
});

Deno.test({
  name: "clients that begin with HTTP/2 are answered in it, and others in HTTP/1.1",
  ignore: FAST !== "Deno.serve",
  async fn() {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${listener.addr.port}`;
    await using _server = serveHttp(listener, (request) => new Response(request.url), { shutdownTimeout: 100 });
    const session = connectHttp2(url);
    const request = session.request({ ":path": "/h2" });
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk;
    assertEquals(text, `${url}/h2`);
    session.destroy();
    assertEquals(await (await fetch(`${url}/h1`)).text(), `${url}/h1`);
  },
});

Deno.test("connections with initial bytes are served all the same", async () => {
  using pair = await connection();
  const client = pair.client.toConn();
  const initialBytes = new TextEncoder().encode("GET /begun HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const socket = Socket.fromHandle(pair.server.detach(), { initialBytes });
  const server = serveHttp(one(socket), (request) => new Response(request.url));
  assertStringIncludes(await within(20_000, new Response(client.readable).text()), "http://a/begun");
  await server.finished;
});

Deno.test("local connections are served all the same", needs("local sockets"), async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/http`;
    await using server = serveHttp(listen({ path }), (_, { localAddr }) => new Response(localAddr.path));
    assertEquals(server.engine, FAST);
    const client = (await connect({ path })).toConn();
    await client.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    assertStringIncludes(await within(20_000, new Response(client.readable).text()), path);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a server knows the address of its listener, after it has shut down too", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { addr } = listener;
  const server = serveHttp(listener, () => new Response());
  assertEquals(server.addr, addr);
  await server.shutdown();
  assertEquals(server.addr, addr);
  const other = serveHttp(none(), () => new Response());
  assertEquals(other.addr, undefined);
  await other.finished;
});

Deno.test("a Deno without what it takes serves by node:http", async () => {
  const output = await runCode(
    `import { serveHttp } from ${moduleUrl("http/mod.ts")};
     console.log(serveHttp((async function* () {})(), () => new Response()).engine);`,
    `--preload=${new URL("../kit/without_adoption.ts", import.meta.url).href}`,
  );
  assertMatch(output, /^node:http$/);
});
