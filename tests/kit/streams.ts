/** Connections as streams, by either of the two paths. */
import { connect, listen } from "@winsock/handoff";
import { ADDRESSES } from "./connections.ts";

/** Two ends of a TCP connection over loopback, as streams. */
export interface StreamPair extends Disposable {
  readonly client: Deno.TcpConn;
  readonly server: Deno.TcpConn;
}

/** One cell of what every stream must be able to do. */
export interface StreamCase {
  readonly name: string;
  readonly hostname: string;
  /** Whether Deno itself reads and writes, or the library. */
  readonly native: boolean;
  pair(): Promise<StreamPair>;
  /** So many at once, through one listener. */
  pairs(count: number): Promise<StreamPair[]>;
}

/** Both paths over both families. */
export const STREAM_CASES: readonly StreamCase[] = [true, false].flatMap((native) =>
  ADDRESSES.map((hostname) => ({
    name: `${native ? "native" : "by foreign functions"}, ${hostname}`,
    hostname,
    native,
    pair: async () => (await connectPairs(hostname, native, 1))[0]!,
    pairs: (count: number) => connectPairs(hostname, native, count),
  }))
);

async function connectPairs(hostname: string, native: boolean, count: number): Promise<StreamPair[]> {
  using listener = listen({ hostname, port: 0 });
  const { port } = listener.addr;
  const pairs: StreamPair[] = [];
  for (let index = 0; index < count; index++) {
    const client = (await connect({ hostname, port })).toConn({ native });
    const server = (await listener.accept()).toConn({ native });
    pairs.push({
      client,
      server,
      [Symbol.dispose]() {
        client.close();
        server.close();
      },
    });
  }
  return pairs;
}
