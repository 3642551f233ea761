/**
 * Answers HTTP on the sockets whose descriptors it receives: a Worker of `threads.ts`.
 *
 * @module
 */
import { Socket } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

const name = crypto.randomUUID().slice(0, 4);
const sockets = new ReadableStream<Socket>({
  start(controller) {
    self.addEventListener("message", (event) => {
      const { data } = event as MessageEvent<bigint>;
      controller.enqueue(Socket.fromHandle(data));
    });
  },
});

serveHttp(sockets, ({ url }) => new Response(`${new URL(url).pathname} from thread ${name} of process ${Deno.pid}\n`));
