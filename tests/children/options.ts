// Takes sockets, and prints the options of each that the argument names.
import { receive, type SocketOptions } from "@winsock/handoff";

const names = Deno.args as (keyof SocketOptions)[];
for await (const { socket } of receive({ kinds: ["connection", "listener", "datagram"] })) {
  console.log(JSON.stringify(names.map((name) => {
    try {
      return socket.getOption(name);
    } catch (error) {
      return (error as { codeName?: string }).codeName ?? (error as Error).name;
    }
  })));
  socket.close();
}
