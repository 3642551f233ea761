// Native code needs full ffi access; importing needs nothing.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { FFI_GRANT } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const CODE = `import * as spi from ${moduleUrl("spi/mod.ts")};
import { WSAPROTOCOL_INFOW } from ${moduleUrl("structs/mod.ts")};
const attempt = (what, call) => {
  try {
    call();
    console.log(what, "works");
  } catch (error) {
    console.log(what, error.name);
  }
};
const path = Deno.build.os === "windows" ? "C:\\\\Windows\\\\System32\\\\mswsock.dll" : "/nowhere/provider.so";
const provider = new spi.MemoryProvider();
attempt("chain", () => {
  const catalog = new spi.ProviderCatalog();
  const base = catalog.addBase(provider);
  const layer = catalog.addLayer("layer", (id) => new spi.LayeredProvider(catalog, id));
  const chain = catalog.open(catalog.addChain("chain", [layer, base]));
  chain.closeSocket(chain.socketSync(WSAPROTOCOL_INFOW.encode(chain.protocolInfo)));
});
attempt("export", () => spi.exportProvider(provider)[Symbol.dispose]());
attempt("native", () => spi.openNativeProvider(path, provider.protocolInfo));
`;

Deno.test("importing works without any permission, and use names what is missing", async () => {
  assertEquals(await runCode(CODE), "chain NotCapable\nexport NotCapable\nnative NotCapable");
});

Deno.test("with the grant for the library files chains work, and native code does not", async () => {
  assertEquals(await runCode(CODE, FFI_GRANT), "chain works\nexport NotCapable\nnative NotCapable");
});

Deno.test("with full ffi access all of it works", async () => {
  assertStringIncludes(await runCode(CODE, "--allow-ffi"), "chain works\nexport works\nnative WinsockError");
});
