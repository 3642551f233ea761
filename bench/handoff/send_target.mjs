/**
 * The child of `send_source.mjs`: writes the first byte of every connection and ends it.
 *
 * @module
 */
import process from "node:process";

process.on("message", (_, socket) => {
  if (socket === undefined) return;
  socket.on("error", () => {});
  // Not end(): a socket that came paused and is never read would stay open.
  socket.write("!");
  socket.destroySoon();
});
process.on("disconnect", () => process.exit(0));
process.send("ready");
