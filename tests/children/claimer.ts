// A Worker that opens the blobs it is sent, each by the copy of the library that it is told, and says what happened.
const worker = self as unknown as Worker;
worker.onmessage = async ({ data }: MessageEvent<{ library: string; blob: Uint8Array }[]>) => {
  const ends = await Promise.allSettled(data.map(async ({ library, blob }) => {
    const { openSocket } = await import(library);
    (await openSocket(blob)).close();
  }));
  worker.postMessage(ends.map((end) => end.status === "fulfilled" ? "opened" : String(end.reason.message)));
};
