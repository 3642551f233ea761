/**
 * A stream on a connection that is not there yet.
 *
 * @module
 */
import type { Socket as NodeSocket } from "node:net";
import { Duplex } from "node:stream";

/**
 * Makes a stream that has nothing to read, and whose writes wait, until its connection is there.
 *
 * @param connection What it reads and writes then; if there is none after all, the stream is destroyed.
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
    // Whatever comes from the network closes it; without a listener it would end the process.
    come.on("error", () => {});
    come.once("close", () => late.destroy());
    come.on("data", (bytes) => void (late.push(bytes) || come.pause()));
    come.on("end", () => late.push(null));
  };
  connection.then(begin, () => late.destroy());
  return late as unknown as NodeSocket;
}
