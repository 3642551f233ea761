/**
 * Runs the arm64 build of Deno for Linux: `deno task arm64 test -A --no-check tests/structs tests/ffi`.
 *
 * On arm64, this is the Deno that runs this program. On other Linux systems it is that build in QEMU's user mode, with
 * the libc of Debian for arm64. It is set up once in `.cache/arm64`, which needs root, Debian and Linux 6.7.
 *
 * @module
 */
import { exists, output, step } from "./commands.ts";
import { setUpDebian, unpackNpm } from "./debian.ts";
import { fetchPackages } from "./packages.ts";

const PROJECT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const CACHE = `${PROJECT}/.cache/arm64`;
const DENO_PACKAGE = "@deno/linux-arm64-glibc@2.9.6";
const DEBIAN_RELEASE = "bookworm";
const QEMU = `${CACHE}/qemu/usr/bin/qemu-aarch64-static`;

/** The format of arm64 programs, in the syntax of `Documentation/admin-guide/binfmt-misc.rst`. */
const FORMAT = String.raw`:arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00` +
  String.raw`:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:${QEMU}:OCF`;

/**
 * Prepares the emulator. Parts that exist are used.
 *
 * @returns The reason why it is not available on this machine.
 */
async function setUp(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return `it needs Linux, and this is ${Deno.build.os}`;
  await Deno.mkdir(CACHE, { recursive: true });
  const unavailable = await setUpDebian({
    root: `${CACHE}/${DEBIAN_RELEASE}`,
    release: DEBIAN_RELEASE,
    // The packages are unpacked. Their scripts, which would need the emulator, are not run.
    options: ["--foreign", "--arch=arm64"],
    title: `Setting up Debian ${DEBIAN_RELEASE} for arm64 (220 MB, about a minute)`,
  });
  if (unavailable !== undefined) return unavailable;
  if (!await exists(QEMU)) {
    const script = `cd "$0" && apt-get -o APT::Sandbox::User=root download qemu-user-static &&
      dpkg-deb --extract qemu-user-static_*.deb qemu && rm qemu-user-static_*.deb`;
    await step("Fetching QEMU", "sh", ["-ec", script, CACHE]);
  }
  await unpackNpm(DENO_PACKAGE, "deno", CACHE);
  // The emulated Deno does not know the certificates of this machine.
  await fetchPackages({ DENO_DIR: `${CACHE}/deno_dir` });
  const formats = ["--user", "--map-root-user", "--mount", "mount", "-t", "binfmt_misc", "none", "/mnt"];
  if (await output("unshare", formats) === undefined) {
    return "a namespace has no binary formats of its own: that needs Linux 6.7 and user namespaces";
  }
  return undefined;
}

/**
 * Creates a command in namespaces of its own. The format of arm64 programs is registered only there, so this machine
 * stays as it is, and all processes end with the command.
 */
function emulated(args: string[]): Deno.Command {
  const environment = ["HOME=/root", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", `DENO_DIR=${CACHE}/deno_dir`];
  const run = ["env", "-i", `--chdir=${PROJECT}`, ...environment, "DENO_NO_UPDATE_CHECK=1", "NO_COLOR=1"];
  const script = `mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    printf %s "$2" > /proc/sys/fs/binfmt_misc/register
    mkdir -p "$0$1"
    mount -t proc proc "$0/proc"
    mount --rbind /dev "$0/dev"
    mount --rbind "$1" "$0$1"
    root=$0; shift 2
    exec chroot "$root" "$@"`;
  const namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];
  const shell = ["sh", "-ec", script, `${CACHE}/${DEBIAN_RELEASE}`, PROJECT, FORMAT];
  return new Deno.Command("unshare", { args: [...namespaces, ...shell, ...run, `${CACHE}/deno`, ...args] });
}

const native = Deno.build.arch === "aarch64";
const unavailable = native ? undefined : await setUp();
if (unavailable !== undefined) {
  console.error(`The arm64 build cannot run here: ${unavailable}`);
  Deno.exit(1);
}
const child = (native ? new Deno.Command(Deno.execPath(), { args: Deno.args }) : emulated(Deno.args)).spawn();
const { code } = await child.status;
Deno.exit(code);
