// A module for `handoff serve`: says who answers, and fails, ends or waits when it is asked to.
export default {
  onListen({ port }: Deno.NetAddr): void {
    console.log(`module listens on ${port}`);
  },
  async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/fail") throw new Error("as asked");
    if (pathname === "/end") Deno.exit(7);
    if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 500));
    return new Response(String(Deno.pid));
  },
  onError(error: Error): Response {
    return new Response(`failed ${error.message}`, { status: 418 });
  },
};
