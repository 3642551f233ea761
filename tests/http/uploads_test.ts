// No upload ends the process, whatever the handler does with the body and wherever the client or the handler breaks it off.
import { assert, assertEquals } from "@std/assert";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";

const PATHS = [
  "/limit",
  "/cancel",
  "/cancel-unread",
  "/cancel-later",
  "/byob",
  "/release",
  "/abandon",
  "/tee",
  "/clone",
  "/pipe-fault",
  "/transform-fault",
  "/loop-fault",
  "/decompress-fault",
  "/echo",
  "/text",
  "/unread",
];
const LENGTH = 1_000_000;
/** What a client does with its connection: sends all of it, or some and then leaves in one way or the other. */
const WAYS = ["whole", "chunked", "expect", "leave", "end", "reset", "leave at once"] as const;
type Way = typeof WAYS[number];

async function connect(port: number, secure: boolean): Promise<Deno.TcpConn | Deno.TlsConn> {
  const plain = await Deno.connect({ hostname: "127.0.0.1", port });
  return secure ? await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] }) : plain;
}

/** Uploads, and tells the status of the answer: 0 if there was none. */
async function upload(port: number, path: string, way: Way, secure: boolean): Promise<number> {
  const conn = await connect(port, secure);
  const received: string[] = [];
  const write = async (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
  };
  const answer = async () => {
    const buffer = new Uint8Array(65_536);
    while (!/HTTP\/1.1 [2-5]/.test(received.join(""))) {
      const count = await conn.read(buffer);
      if (count === null) break;
      received.push(new TextDecoder("latin1").decode(buffer.subarray(0, Math.min(count, 1_000))));
    }
    return Number(/HTTP\/1.1 ([2-5]\d\d)/.exec(received.join(""))?.[1] ?? 0);
  };
  try {
    const length = way === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${LENGTH}`;
    const expect = way === "expect" ? "Expect: 100-continue\r\n" : "";
    await write(new TextEncoder().encode(`POST ${path} HTTP/1.1\r\nHost: a\r\n${length}\r\n${expect}\r\n`));
    const body = new Uint8Array(LENGTH).fill(65);
    if (way === "leave at once") return 0;
    if (way === "leave" || way === "end" || way === "reset") {
      await write(body.subarray(0, 200_000));
      if (way === "end") await conn.closeWrite();
      // What has come and is not read resets the connection.
      else if (way === "reset") await new Promise((resolve) => setTimeout(resolve, 5));
      return way === "end" ? await answer() : 0;
    }
    if (way === "expect") await conn.read(new Uint8Array(1_000)).then((count) => count ?? 0);
    const answering = answer();
    answering.catch(() => {});
    try {
      const sized = way === "chunked"
        ? [new TextEncoder().encode(`${LENGTH.toString(16)}\r\n`), body, new TextEncoder().encode("\r\n0\r\n\r\n")]
        : [body];
      for (const bytes of sized) await write(bytes);
    } catch {
      // The server has what it wants.
    }
    return await answering;
  } catch {
    return Number(/HTTP\/1.1 ([2-5]\d\d)/.exec(received.join(""))?.[1] ?? 0);
  } finally {
    conn.close();
  }
}

for (const [engine, how] of [["node:http", "plain"], ["node:http", "tls"], ["Deno.serve", "plain"]] as const) {
  Deno.test({
    name: `${engine}, ${how}: 224 uploads that are broken off end no process and leave no connection`,
    ignore: engine === "Deno.serve" && !canAdoptResource(),
    async fn() {
      const child = spawnChild("../http/upload_server.ts", [engine, how]);
      let ended = false;
      child.status.then(() => ended = true);
      try {
        const port = Number(await lines(child)());
        const secure = how === "tls";
        const state = async (): Promise<{ connections: number; errors: string[] }> => {
          using conn = await connect(port, secure);
          await conn.write(new TextEncoder().encode("GET /state HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
          const text = await new Response(conn.readable).text();
          return JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
        };
        for (const path of PATHS) {
          const before = (await within(20_000, state())).errors.length;
          const uploads = [...WAYS, ...WAYS].map(async (way) => [way, await upload(port, path, way, secure)] as const);
          const statuses = await within(60_000, Promise.all(uploads));
          assert(!ended, `${path} ended the process`);
          // Those that send all of it and read have an answer.
          for (const [way, status] of statuses) {
            if (way === "whole" || way === "chunked") assert(status >= 200, `${path}, ${way}: no answer`);
          }
          if (path.endsWith("-fault")) {
            const { errors } = await within(20_000, state());
            assert(errors.length > before, `${path}: onError was told nothing`);
          }
        }
        await until(async () => (await within(20_000, state())).connections <= 1, "no connection is left");
        assertEquals(ended, false);
      } finally {
        await endChild(child);
      }
    },
  });
}
