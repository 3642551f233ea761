/**
 * Runs the Windows build of Deno: `deno task windows run script.ts`.
 *
 * On Windows, this is the Deno that runs this program. On other systems it is deno.exe under Wine 9 or newer. Without
 * Wine, a Debian system with Wine 10 is set up once in `.cache/windows`, which needs root and Debian.
 *
 * @module
 */
import { fetchPackages } from "./packages.ts";
import { step } from "./commands.ts";
import { setUpDeno, setUpPrefix, setUpWine, type Wine } from "./windows_setup.ts";

const PROJECT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const CACHE = `${PROJECT}/.cache/windows`;

/** The environment variables that tests read. They are passed on, so that a run under Wine can be repeated. */
const SEEDS = ["CHAOS_SEED", "FAULTS", "FAULT_SEED", "FUZZ_RUNS", "FUZZ_SEED"];

/** The Windows build of Deno under Wine, as a program for {@linkcode windowsPrograms}. */
export const WINE_DENO = `${CACHE}/deno.exe`;

/** The error if the Windows lane is not available on this machine. The message is the reason. */
export class LaneUnavailable extends Error {
  override readonly name = "LaneUnavailable";
}

/**
 * Prepares the Windows lane. Parts that exist are used.
 *
 * @param jobs The number of programs that run at the same time, each with a Wine of its own.
 * @returns A function that creates the command to run the Windows build with arguments, in the project's folder, as the
 * job of that number.
 * @throws {LaneUnavailable} If the lane is not available on this machine.
 */
export async function windowsLane(
  jobs = 1,
): Promise<(args: string[], options?: CommandStreams, job?: number) => Deno.Command> {
  if (Deno.build.os === "windows") return (args, options) => new Deno.Command(Deno.execPath(), { ...options, args });
  const program = await windowsPrograms();
  for (let job = 1; job < jobs; job++) await copyForJob(job);
  return (args, options, job = 0) => program([WINE_DENO, ...args], { ...options, job });
}

/** The standard streams of a program. */
export type CommandStreams = Pick<Deno.CommandOptions, "stdin" | "stdout" | "stderr">;

/** Options of a program under Wine. */
export interface WineOptions extends CommandStreams {
  /** A command of the host to start Wine with, such as `taskset`, and its arguments. */
  under?: string[];
  /** The job whose Wine runs the program. Defaults to the first. */
  job?: number;
}

/**
 * Prepares Wine for any program of Windows. Parts that exist are used.
 *
 * @returns A function that creates the command to run a program, given by its path on this machine or its name in Wine.
 * @throws {LaneUnavailable} If the lane is not available on this machine.
 */
export async function windowsPrograms(): Promise<(program: string[], options?: WineOptions) => Deno.Command> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new LaneUnavailable(
      `it needs Windows, or Linux on x86_64, and this is ${Deno.build.os} on ${Deno.build.arch}`,
    );
  }
  await Deno.mkdir(CACHE, { recursive: true });
  await (turn ??= takeTurn());
  const wine = await setUpWine(CACHE);
  if ("unavailable" in wine) throw new LaneUnavailable(wine.unavailable);
  await setUpDeno(CACHE);
  // This Deno fetches the packages into the cache of the Windows build.
  await fetchPackages({ DENO_DIR: `${CACHE}/deno_dir` });
  await setUpPrefix(command(CACHE, wine, ["wineboot", "--update"]), CACHE);
  return (program, { under = [], job = 0, ...options } = {}) =>
    command(jobFolder(job), wine, [...under, "wine", ...program], options);
}

/** Ends the processes of Wine that outlive the commands. In namespaces of its own, all of them end. */
export async function endWindows(jobs = 1): Promise<void> {
  const wine = await setUpWine(CACHE);
  if ("unavailable" in wine || wine.root !== undefined) return;
  for (let job = 0; job < jobs; job++) {
    await command(jobFolder(job), wine, ["wineserver", "-k"], { stdout: "null", stderr: "null" }).output();
  }
}

/** The folder with the prefix of a job and its cache of Deno. */
function jobFolder(job: number): string {
  return job === 0 ? CACHE : `${CACHE}/job-${job}`;
}

/**
 * Gives a job a prefix, which has its own server and therefore does not wait for that of another job, and a cache. The
 * files are linked. The databases in the cache are not, because Wine's locks do not work across prefixes.
 */
async function copyForJob(job: number): Promise<void> {
  const script = `rm -rf "$1" && mkdir -p "$1/deno_dir" && cp -al "$0/prefix" "$1/prefix"
    for folder in "$0"/deno_dir/*/; do cp -al "$folder" "$1/deno_dir/"; done`;
  await step("", "sh", ["-ec", script, CACHE, jobFolder(job)]);
}

let turn: Promise<void> | undefined;

/**
 * Waits until other processes have stopped using the cache, and locks it until this process ends. All programs of a
 * prefix share one server. If the server was started in namespaces, it ends with them.
 */
async function takeTurn(): Promise<void> {
  const file = await Deno.open(`${CACHE}/turn`, { create: true, write: true });
  if (await file.tryLock(true)) return;
  console.error("Waiting for another run of the Windows lane.");
  await file.lock(true);
}

/**
 * Creates a command under Wine, in its own namespaces. Its mounts and processes are removed when it ends. The project
 * is available with the mounts in it.
 */
function command(folder: string, wine: Wine, program: string[], options: Deno.CommandOptions = {}): Deno.Command {
  const environment = [
    "HOME=/root",
    "PATH=/usr/bin:/bin",
    "LANG=C.UTF-8",
    "WINEDEBUG=-all",
    `WINEPREFIX=${folder}/prefix`,
    `DENO_DIR=Z:${folder.replaceAll("/", "\\")}\\deno_dir`,
    "DENO_NO_UPDATE_CHECK=1",
    "NO_COLOR=1",
    ...SEEDS.flatMap((name) => Deno.env.has(name) ? [`${name}=${Deno.env.get(name)}`] : []),
  ];
  const run = ["env", "-i", `--chdir=${PROJECT}`, ...environment, ...program];
  if (wine.root === undefined) return new Deno.Command(run[0]!, { ...options, args: run.slice(1) });
  const script = `set -e
    mkdir -p "$0$1"
    mount -t proc proc "$0/proc"
    mount --rbind "$1" "$0$1"
    root=$0; shift
    exec chroot "$root" "$@"`;
  const namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"];
  const args = [...namespaces, "sh", "-c", script, wine.root, PROJECT, ...run];
  return new Deno.Command("unshare", { ...options, args });
}

if (import.meta.main) {
  try {
    const lane = await windowsLane();
    const child = lane(Deno.args).spawn();
    // The signal must be passed on here, because `unshare` ignores it.
    if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => child.kill("SIGKILL"));
    const { code } = await child.status;
    Deno.exit(code);
  } catch (error) {
    if (!(error instanceof LaneUnavailable)) throw error;
    console.error(`The Windows lane cannot run here: ${error.message}`);
    Deno.exit(1);
  }
}
