// Receives with several copies of the library, in this thread or each in a Web Worker, and prints what each of them gets.
//   copies.ts threads|one URL…
const [where, ...urls] = Deno.args as [string, ...string[]];

async function run(url: string, name: string): Promise<void> {
  const { receive } = await import(url) as typeof import("@winsock/handoff");
  try {
    for await (const { socket } of receive()) {
      console.log(name, "received");
      await socket.toConn().write(new TextEncoder().encode(`${name}\n`));
    }
    console.log(name, "end");
  } catch (error) {
    console.log(name, String(error));
  }
}

if (where === "one") {
  await Promise.all(urls.map((url, index) => run(url, `${index}`)));
} else {
  const code = `${run}; onmessage = async ({ data }) => { await run(...data); postMessage("over"); };`;
  await Promise.all(urls.map((url, index) => {
    const worker = new Worker(`data:text/javascript,${encodeURIComponent(code)}`, { type: "module" });
    const { promise, resolve } = Promise.withResolvers<unknown>();
    worker.onmessage = resolve;
    worker.postMessage([url, `${index}`]);
    return promise.then(() => worker.terminate());
  }));
}
