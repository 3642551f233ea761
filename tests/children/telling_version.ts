// A version of a server that tells each client about itself: MODE ARGS…. What a client sends in one line is what it does
// first: "upgrade" replaces itself, by default as it was started; after the answer to "hang" it does nothing more.
import { inherit, upgrade, UpgradeError } from "@winsock/handoff";

const [mode = "well"] = Deno.args;
const version = await inherit();
const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
const next = { script: import.meta.url, timeout: 10_000, probation: 0, drainTimeout: 0 };
if (mode === "upgrade early") {
  const error = await upgrade(version, next).catch((error) => error);
  await version.refuse(error instanceof UpgradeError ? error.outcome : String(error));
  Deno.exit(0);
}
if (mode === "never ready") await new Promise((resolve) => setTimeout(resolve, 60_000));
await version.markReady();
if (mode === "wait for nothing") listener.close();
if (mode === "only wait") {
  await version.confirmed;
  Deno.exit(9);
}
version.retired.then(() => {
  if (mode !== "never end") setTimeout(() => Deno.exit(7), 50);
});
if (mode === "never end") setInterval(() => {}, 1_000);
if (mode === "upgrade in trial") await upgrade(version, { ...next, args: ["well"] });
const about = {
  pid: Deno.pid,
  args: Deno.args,
  predecessor: version.predecessor,
  net: Deno.permissions.querySync({ name: "net", host: "example.com" }).state,
  otherNet: Deno.permissions.querySync({ name: "net", host: "example.org" }).state,
  kv: "openKv" in Deno,
};
for await (const socket of listener) {
  using conn = socket.toConn();
  const buffer = new Uint8Array(100);
  const asked = new TextDecoder().decode(buffer.subarray(0, await conn.read(buffer) ?? 0));
  const told = asked === "upgrade\n"
    ? await upgrade(version, next).then(({ processId }) => ({ processId }), (error) => ({ error: String(error) }))
    : about;
  await conn.write(new TextEncoder().encode(JSON.stringify(told)));
  if (asked === "hang\n") {
    setTimeout(() => {
      for (;;);
    }, 50);
  }
}
