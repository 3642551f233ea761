/**
 * The child of `send_source.mjs`: writes the first byte of every connection and ends it.
 *
 * @module
 */

globalThis.process.on("message", (_, socket) => {
  if (socket === undefined) return;
  socket.on("error", () => {});
  // Not end(): a socket that came paused and is never read would stay open.
  socket.write("!");
  socket.destroySoon();
});
globalThis.process.on("disconnect", () => globalThis.process.exit(0));
globalThis.process.send("ready");
