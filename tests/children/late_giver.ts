// A target that hands its connection back when that is too late: end|leave|abort|messages. It tells the client how that
// failed, on the connection, which is its own then.
import { HandoffError, receive } from "@winsock/handoff";

const [mode] = Deno.args;
const abort = new AbortController();
const target = receive({ signal: abort.signal });
const { value } = await target.next();
const { socket } = value!;
if (mode === "leave") await target.return();
if (mode === "abort") abort.abort();
// Until the source says that no more comes.
if (mode === "end") await target.next();
const failures = [target.send(socket, { data: "late" }), target.postMessage("late")].map((sending) =>
  sending.then(
    () => "sent",
    (error) => error instanceof HandoffError ? `${error.outcome}: ${error.reason}` : `${error}`,
  )
);
using conn = socket.toConn();
await conn.write(new TextEncoder().encode(JSON.stringify(await Promise.all(failures))));
