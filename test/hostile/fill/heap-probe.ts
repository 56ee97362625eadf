/**
 * The heap of a process from within. A process that imports this before its program, with the query
 * that the flags name, collects all garbage on SIGUSR2, and writes what is left.
 */
export const heapProbeFlags = ['--expose-gc', '--import', `${import.meta.url}?probe`];

const head = 'heap-probe ';

/** Bytes of the heap and of what its objects hold outside of it, as often as they were written. */
export function probesIn(output: string): number[] {
  const lines = output.split('\n').filter((line) => line.startsWith(head));
  return lines.map((line) => Number(line.slice(head.length)));
}

function probe(): void {
  globalThis.gc!();
  // Buffers go some time after the collection that found them.
  setImmediate(() => {
    globalThis.gc!();
    const { heapUsed, external } = process.memoryUsage();
    process.stdout.write(`${head}${heapUsed + external}\n`);
  });
}

if (new URL(import.meta.url).searchParams.has('probe')) process.on('SIGUSR2', probe);
