/** Connected sockets for tests, and bytes through them. */
import { connect, listen, type Socket } from "@winsock/handoff";
import { within } from "./process.ts";

export const ADDRESSES = ["127.0.0.1", "::1"] as const;

/** Two ends of a TCP connection over loopback. */
export interface Connection extends Disposable {
  readonly client: Socket;
  readonly server: Socket;
}

export async function connection(hostname: string = ADDRESSES[0]): Promise<Connection> {
  using listener = listen({ hostname, port: 0 });
  const client = await connect({ hostname, port: listener.addr.port });
  const server = await listener.accept();
  return {
    client,
    server,
    [Symbol.dispose]() {
      client.close();
      server.close();
    },
  };
}

/** Returns a function for paths of local sockets that none has. The folder is removed after the tests of the module. */
export function temporaryPaths(): () => string {
  let folder: string | undefined;
  let count = 0;
  Deno.test.afterAll(() => {
    if (folder !== undefined) Deno.removeSync(folder, { recursive: true });
  });
  return () => {
    folder ??= Deno.makeTempDirSync();
    return `${folder}/${count++}`;
  };
}

export async function writeText(conn: Deno.Conn, text: string): Promise<void> {
  await within(20_000, writeAll(conn, new TextEncoder().encode(text)));
}

export async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await conn.write(bytes.subarray(written));
}

/** The next `length` bytes as text; fewer at the end. */
export async function readText(conn: Deno.Conn, length: number): Promise<string> {
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const count = await within(20_000, conn.read(bytes.subarray(filled)));
    if (count === null) break;
    filled += count;
  }
  return new TextDecoder().decode(bytes.subarray(0, filled));
}

/** Whether the peer has ended its side. */
export async function readEnd(conn: Deno.Conn): Promise<boolean> {
  return await within(20_000, conn.read(new Uint8Array(1))) === null;
}
