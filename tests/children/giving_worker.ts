// A worker that gives connections up. Each is asked one line at a time:
//   who            answers with its process id and the data that came with the connection
//   back DATA      hands the connection back with that data, after it has read ahead what follows
//   die            ends with 7 while it hands the connection back
//   freeze         answers with `frozen`, and stops once it has offered the connection back
// Messages of the source are sent back to it.
import { concat } from "@std/bytes/concat";
import { duplicateSocket, openSocket, receive, type Socket } from "@winsock/handoff";

const target = receive({ sendTimeout: Number(Deno.args[0] ?? 10_000) });

(async () => {
  for await (const message of target.messages) await target.postMessage({ echo: message }).catch(() => {});
})();

for await (const { socket, data } of target) {
  serve(socket, data).catch((error) => {
    console.error(error.message);
    socket.close();
  });
}

async function serve(socket: Socket, data: unknown): Promise<void> {
  const writer = (await openSocket(duplicateSocket(socket, Deno.pid), { kind: "connection" })).toConn();
  const say = (text: string) => writer.write(new TextEncoder().encode(`${text}\n`));
  try {
    let bytes: Uint8Array = new Uint8Array(0);
    for (;;) {
      const end = bytes.indexOf(10);
      if (end === -1) {
        const more = await socket.read(100);
        if (more === null) return socket.close();
        bytes = concat([bytes, more]);
        continue;
      }
      const [word, ...rest] = new TextDecoder().decode(bytes.subarray(0, end)).split(" ");
      bytes = bytes.subarray(end + 1);
      if (word === "who") {
        await say(`${Deno.pid} ${JSON.stringify(data ?? null)}`);
        continue;
      }
      socket.unread(bytes);
      if (word === "die") {
        setTimeout(() => Deno.exit(7), 0);
        return await target.send(socket, { data: "dying" });
      }
      const sending = target.send(socket, { data: rest.join(" ") });
      if (word === "freeze") setTimeout(() => Deno.kill(Deno.pid, "SIGSTOP"), 0);
      return await sending;
    }
  } finally {
    writer.close();
  }
}
