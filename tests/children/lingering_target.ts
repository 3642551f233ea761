// Takes the sockets it is handed, has closing them block for three seconds or those of its second argument, and closes its
// own descriptors first: the last close is its source's. With the argument `withdrawn` it does that without taking them.
import { receive } from "@winsock/handoff";
import { systemCalls } from "../../ffi/system.ts";
import { UNIX_STREAMS } from "../../ffi/unix/io.ts";

const MORE_THAN_FITS = new Uint8Array(8 << 20);

for await (const received of receive({ autoAccept: false })) {
  const { socket } = received;
  socket.setOption("SO_LINGER", Number(Deno.args[1] ?? 3));
  UNIX_STREAMS.send(socket.handle, MORE_THAN_FITS);
  if (Deno.args[0] === "withdrawn") received.reject("no");
  else received.accept();
  if (socket.handle !== 0xffff_ffff_ffff_ffffn) systemCalls().close(socket.detach());
}
