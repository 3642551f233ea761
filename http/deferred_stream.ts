/**
 * A stream over a connection that is not available yet.
 *
 * @module
 */
import type { Socket as NodeSocket } from "node:net";
import { Duplex } from "node:stream";

/**
 * Creates a stream that has nothing to read, and whose writes wait, until its connection is available.
 *
 * @param connection The connection to read from and write to. If it rejects, the stream is destroyed.
 */
export function deferredStream(connection: Promise<NodeSocket>): NodeSocket {
  let stream: NodeSocket | undefined;
  const late = new Duplex({
    allowHalfOpen: true,
    read: () => void stream?.resume(),
    write: (chunk, encoding, done) => void connection.then((stream) => stream.write(chunk, encoding, done), done),
    final: (done) => void connection.then((stream) => stream.end(done), done),
    destroy(error, done) {
      connection.then((stream) => stream.destroy(), () => {});
      done(error);
    },
  });
  const begin = (come: NodeSocket) => {
    stream = come;
    if (come.destroyed) return void late.destroy();
    // A network error closes the connection. Without a listener, the error would end the process.
    come.on("error", () => {});
    come.once("close", () => late.destroy());
    come.on("data", (bytes) => void (late.push(bytes) || come.pause()));
    come.on("end", () => late.push(null));
  };
  connection.then(begin, () => late.destroy());
  return late as unknown as NodeSocket;
}
