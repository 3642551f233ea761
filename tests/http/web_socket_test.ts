// WebSockets on connections that were handed to serveHttp, from the client of npm's ws and from Deno's own.
import { assert, assertEquals, assertInstanceOf, assertMatch } from "@std/assert";
import { WebSocket as WsClient } from "ws";
import type { HttpHandler } from "@winsock/handoff/http";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

/** Echoes. `late` listens long after the handshake. */
const echo: HttpHandler = async (request, info) => {
  const { socket, response } = info.upgradeWebSocket({ protocol: "echo", headers: { "set-cookie": "a=b" } });
  if (request.url.endsWith("/late")) await new Promise((resolve) => setTimeout(resolve, 100));
  socket.onopen = () => socket.send("welcome");
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
};

const KEYLESS = HANDSHAKE.filter((header) => !header.startsWith("Sec-WebSocket-Key"));

eachEngine("npm's ws client is greeted and echoed, text and bytes", async (engine) => {
  await using served = start(echo, { engine });
  for (const path of ["/", "/late"]) {
    const client = new WsClient(`ws://127.0.0.1:${served.port}${path}`, ["other", "echo"]);
    const received: unknown[] = [];
    client.on("message", (data: Uint8Array, isBinary: boolean) => {
      received.push(isBinary ? data.length : data.toString());
    });
    client.on("open", () => {
      client.send("hello");
      client.send(new Uint8Array(100_000));
    });
    await until(() => received.length === 3, "all came back");
    assertEquals(received, ["welcome", "hello", 100_000]);
    assertEquals(client.protocol, "echo");
    client.close();
    await until(() => served.server.connectionCount === 0, "the connection is gone");
  }
});

eachEngine("Deno's client is echoed, and asked to go at the shutdown", async (engine) => {
  await using served = start(echo, { engine, shutdownTimeout: 10_000 });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  const closed = Promise.withResolvers<CloseEvent>();
  client.onclose = closed.resolve;
  await within(20_000, new Promise((resolve) => client.onmessage = resolve));
  await within(20_000, served.server.shutdown());
  const { code, wasClean } = await within(20_000, closed.promise);
  assertEquals({ code, wasClean }, { code: 1001, wasClean: true });
});

eachEngine("a WebSocket that is opened during the shutdown is asked to go, too", async (engine) => {
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  await using served = start(async (_, info) => {
    asked.resolve();
    await answer.promise;
    return info.upgradeWebSocket().response;
  }, { engine, shutdownTimeout: 10_000 });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  const closed = Promise.withResolvers<CloseEvent>();
  client.onclose = closed.resolve;
  await within(20_000, asked.promise);
  const shutdown = served.server.shutdown();
  answer.resolve();
  const { code, wasClean } = await within(5_000, closed.promise);
  assertEquals({ code, wasClean }, { code: 1001, wasClean: true });
  await within(5_000, shutdown);
});

eachEngine("the handshake carries the handler's headers", async (engine) => {
  await using served = start(echo, { engine });
  using client = await RawClient.connect(served.port);
  const { status, head } = await client.get("/", ...HANDSHAKE);
  assertEquals(status, 101);
  assertMatch(head, /^set-cookie: a=b/im);
  for (const line of [/^connection: upgrade\r$/im, /^upgrade: websocket\r$/im, /^sec-websocket-accept: s3pPLM/im]) {
    assertMatch(head, line);
  }
});

eachEngine("a handler may answer a request for a WebSocket as any other, at any length", async (engine) => {
  const body = "x".repeat(3_000_000);
  const completed = Promise.withResolvers<void>();
  await using served = start((_, info) => {
    info.completed.then(completed.resolve, completed.reject);
    return new Response(body, { status: 403 });
  }, { engine, keepAliveTimeout: 100 });
  using client = await RawClient.connect(served.port);
  const response = await client.get("/", ...HANDSHAKE);
  assertEquals([response.status, response.body.length], [403, body.length]);
  await within(20_000, completed.promise);
  assertEquals(await client.rest(), "");
});

eachEngine("a wrong handshake is answered 400 and is no error of the server's", async (engine) => {
  const errors: unknown[] = [];
  await using served = start(echo, { engine, onError: (error) => void errors.push(error) });
  for (
    const headers of [[], KEYLESS, [...KEYLESS, "Sec-WebSocket-Key: short"], ["Connection: Upgrade", "Upgrade: h2c"]]
  ) {
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/", ...headers)).status, 400);
  }
  assertEquals(errors, []);
});

eachEngine("a handler that fails after the handshake closes the WebSocket", async (engine) => {
  const errors: unknown[] = [];
  await using served = start((_, info) => {
    info.upgradeWebSocket();
    throw new Error("changed its mind");
  }, { engine, onError: (error) => void errors.push(error) });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  const { code } = await within(20_000, new Promise<CloseEvent>((resolve) => client.onclose = resolve));
  assertEquals(code, 1011);
  assertInstanceOf(errors[0], Error);
});

eachEngine("a listener that throws as the WebSocket opens closes it, and onError is told once", async (engine) => {
  const errors: unknown[] = [];
  await using served = start((_, info) => {
    const { socket, response } = info.upgradeWebSocket();
    socket.onopen = () => {
      throw new Error("not today");
    };
    return response;
  }, { engine, onError: (error) => void errors.push(error) });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  const { code } = await within(20_000, new Promise<CloseEvent>((resolve) => client.onclose = resolve));
  assertEquals([code, errors.map(String)], [1011, ["Error: not today"]]);
});

eachEngine("frames that are none, or too long, end that WebSocket alone", async (engine) => {
  const codes: number[] = [];
  await using served = start((_, info) => {
    const { socket, response } = info.upgradeWebSocket();
    socket.addEventListener("close", ({ code }) => codes.push(code));
    return response;
  }, { engine, maxMessageSize: 1_000 });
  {
    using garbage = await RawClient.connect(served.port);
    assertEquals((await garbage.get("/", ...HANDSHAKE)).status, 101);
    await garbage.write(new Uint8Array(100).fill(0xff));
    await garbage.rest();
  }
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  await within(20_000, new Promise((resolve) => client.onopen = resolve));
  client.send(new Uint8Array(2_000));
  const { code } = await within(20_000, new Promise<CloseEvent>((resolve) => client.onclose = resolve));
  assertEquals(code, 1009);
  await until(() => served.server.connectionCount === 0, "both are gone");
  assert(codes.length === 2, String(codes));
});

/** Lines of a request for a WebSocket, some of them other than they must be. */
function handshake(changes: Record<string, string | undefined>): string[] {
  const lines = HANDSHAKE.map((line) => line.split(": ") as [string, string]).map(([name, value]) => {
    return [name, name in changes ? changes[name] : value];
  });
  return lines.flatMap(([name, value]) => value === undefined ? [] : [`${name}: ${value}`]);
}

eachEngine(
  "a handshake of another version is told which there is; one that does not ask for it is none",
  async (engine) => {
    const errors: unknown[] = [];
    await using served = start((_, info) => info.upgradeWebSocket().response, {
      engine,
      onError: (error) => void errors.push(error),
    });
    for (const version of ["99", "8", "12, 13", undefined]) {
      using client = await RawClient.connect(served.port);
      const { status, head } = await client.get("/", ...handshake({ "Sec-WebSocket-Version": version }));
      assertEquals(status, 426, version);
      assertMatch(head, /^sec-websocket-version: 13\r$/im);
    }
    for (const changes of [{ Connection: undefined }, { Connection: "keep-alive" }, { Upgrade: undefined }]) {
      using client = await RawClient.connect(served.port);
      assertEquals((await client.get("/", ...handshake(changes))).status, 400, JSON.stringify(changes));
    }
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/", ...handshake({ Connection: "keep-alive, UPGRADE" }))).status, 101);
    assertEquals(errors, []);
  },
);

eachEngine("a handler cannot send the handshake's own headers", async (engine) => {
  const errors: unknown[] = [];
  let headers: HeadersInit = {};
  await using served = start((_, info) => info.upgradeWebSocket({ headers }).response, {
    engine,
    onError: (error) => void errors.push(error),
  });
  const own = ["Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "Sec-WebSocket-Accept"];
  for (const name of [...own, "sec-websocket-protocol", "Sec-WebSocket-Extensions"]) {
    headers = { [name]: "x" };
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/", ...HANDSHAKE)).status, 500, name);
    assertMatch(String(errors.pop()), new RegExp(`TypeError: .*"${name.toLowerCase()}"`));
  }
  headers = [["set-cookie", "a=b"], ["set-cookie", "c=d"]];
  using client = await RawClient.connect(served.port);
  const { status, head } = await client.get("/", ...HANDSHAKE);
  assertEquals(status, 101);
  assertMatch(head, /^set-cookie: a=b\r\nset-cookie: c=d\r$/im);
});

eachEngine("a WebSocket goes on when a listener throws, which is reported as Deno does it", async (engine) => {
  const reported: string[] = [];
  const onReport = (event: ErrorEvent) => {
    reported.push(event.error.message);
    event.preventDefault();
  };
  addEventListener("error", onReport);
  try {
    const closed = Promise.withResolvers<CloseEvent>();
    const heard: string[] = [];
    await using served = start((_, info) => {
      const { socket, response } = info.upgradeWebSocket();
      socket.onmessage = ({ data }) => {
        if (data === "throw") throw new Error("of the property");
        socket.send(`${data} too`);
      };
      const listener = ({ data }: MessageEvent) => {
        heard.push(data);
        if (data === "throw") throw new Error("of the listener");
      };
      socket.addEventListener("message", listener);
      socket.addEventListener("message", ({ data }) => {
        heard.push(`once ${data}`);
        socket.removeEventListener("message", listener);
      }, { once: true });
      socket.addEventListener("close", () => {
        throw new Error("of the end");
      });
      socket.onclose = closed.resolve;
      return response;
    }, { engine });
    const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
    await within(20_000, new Promise((resolve) => client.onopen = resolve));
    client.send("throw");
    client.send("hello");
    const { data } = await within(20_000, new Promise<MessageEvent>((resolve) => client.onmessage = resolve));
    assertEquals(data, "hello too");
    client.close(4_000);
    assertEquals((await within(20_000, closed.promise)).code, 4_000);
    assertEquals(heard, ["throw", "once throw"]);
    assertEquals(reported, ["of the property", "of the listener", "of the end"]);
  } finally {
    removeEventListener("error", onReport);
  }
});
