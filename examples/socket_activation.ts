/**
 * Answers connections on a socket that systemd opened, or on one of its own.
 *
 *     systemd-socket-activate -l 127.0.0.1:8080 --fdname=web deno run --no-prompt \
 *       --allow-env=LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD,NOTIFY_SOCKET \
 *       --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 examples/socket_activation.ts
 *
 * It says READY=1 to a manager that wants to know, answers one connection and ends. Nothing it may do opens a port, or
 * reaches the network.
 *
 * @module
 */
import { listen } from "@winsock/handoff";
import { notify, systemdSockets } from "@winsock/handoff/interop";

using passed = systemdSockets();
using listener = passed.takeListener("web") ?? passed.takeListener(0) ?? listen({ hostname: "127.0.0.1", port: 0 });
const origin = passed.length > 0 ? `passed under the name ${passed.names[0]}` : "its own";
console.log(`Process ${Deno.pid} listens on port ${listener.addr.port}, ${origin}`);
await notify({ READY: 1, STATUS: `Listening on port ${listener.addr.port}` });

using conn = (await listener.accept()).toConn();
await conn.write(new TextEncoder().encode(`Hello from process ${Deno.pid}, on a listener ${origin}\n`));
await conn.closeWrite();
await notify({ STOPPING: 1 });
