/** A registry as JSR is one, on loopback: `deno publish` publishes to it, and `deno add` adds from it. */
import { parseTarGzip } from "npm:nanotar@0.3.0";

export interface Registry extends AsyncDisposable {
  /** What `JSR_URL` is in the processes that use it. */
  readonly url: string;
}

/** A version of a package, as it was published. */
interface Release {
  readonly version: string;
  readonly exports: Record<string, string>;
  /** By their paths, which begin with a slash. */
  readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

type Answer = (groups: Record<string, string | undefined>, request: Request) => Response | Promise<Response>;
type Route = [method: string, pathname: string, answer: Answer];

const JSR = "https://jsr.io";
const API = "/api/scopes/:scope/packages/:package";

/**
 * Starts an empty registry.
 *
 * @param forward Whether what it does not have is JSR's.
 */
export function startRegistry(forward: boolean): Registry {
  const releases = new Map<string, Release>();

  /** A route to something of a release; a package has one here, and it is the one that was asked for, if any was. */
  const ofRelease = (
    pathname: string,
    answer: (release: Release, path: string) => Response | Promise<Response>,
  ): Route => {
    return ["GET", `/:scope(@[^/]+)/:package${pathname}`, (groups) => {
      const release = releases.get(`${groups.scope}/${groups.package}`);
      if (release === undefined || (groups.version ?? release.version) !== release.version) return notFound();
      return answer(release, `/${groups.path}`);
    }];
  };
  const routes: Route[] = [
    ["GET", API, () => Response.json({})],
    ["POST", `${API}/versions/:version`, async ({ scope, package: name, version }, request) => {
      releases.set(`@${scope}/${name}`, await readRelease(version!, await request.bytes()));
      return Response.json(publishingTask(scope!, name!, version!));
    }],
    ofRelease("/meta.json", ({ version }) => {
      return Response.json({ latest: version.includes("-") ? null : version, versions: { [version]: {} } });
    }),
    ofRelease("/:version([^/]+)_meta.json", async (release) => {
      return Response.json({ exports: release.exports, manifest: await manifest(release) });
    }),
    ofRelease("/:version/:path+", ({ files }, path) => {
      const file = files.get(path);
      return file ? new Response(file, { headers: { "content-type": contentType(path) } }) : notFound();
    }),
  ];
  const patterns = routes.map(([method, pathname, answer]) => {
    return { method, pattern: new URLPattern({ pathname }), answer };
  });

  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    for (const { method, pattern, answer } of patterns) {
      const groups = method === request.method && pattern.exec({ pathname })?.pathname.groups;
      if (!groups) continue;
      const response = await answer(groups, request);
      if (response.ok) return response;
    }
    return forward ? await fetch(new URL(pathname, JSR)) : notFound();
  });
  return { url: `http://127.0.0.1:${server.addr.port}`, [Symbol.asyncDispose]: () => server.shutdown() };
}

async function readRelease(version: string, tarball: Uint8Array): Promise<Release> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { name, data } of await parseTarGzip(tarball)) {
    if (data !== undefined) files.set(`/${name.replace(/^\.\//, "")}`, new Uint8Array(data));
  }
  const { exports } = JSON.parse(new TextDecoder().decode(files.get("/deno.json")));
  return { version, exports, files };
}

/** What JSR says of a version it is publishing; this one has been at once. */
function publishingTask(packageScope: string, packageName: string, packageVersion: string) {
  return { id: "1", packageScope, packageName, packageVersion, status: "success", error: null };
}

/** What a version's files must be, which Deno checks. */
async function manifest({ files }: Release): Promise<Record<string, { size: number; checksum: string }>> {
  const entries = [...files].map(async ([path, data]) => {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
    return [path, { size: data.length, checksum: `sha256-${digest}` }];
  });
  return Object.fromEntries(await Promise.all(entries));
}

function contentType(path: string): string {
  return path.endsWith(".json") ? "application/json" : "text/typescript";
}

function notFound(): Response {
  return Response.json({ code: "notFound", message: "There is no such thing" }, { status: 404 });
}
