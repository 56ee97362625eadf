import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parentOf, processUsage, programOf, sumUsage } from '../../bench/support/measure/usage.ts';

const linux = existsSync('/proc/self/stat');

describe('usage', () => {
  it('a process that is gone has no usage, and a sum with it has none either', () => {
    const neverAPid = 2 ** 30;
    expect(processUsage(neverAPid)).toBeNull();
    expect(sumUsage([process.pid, neverAPid])).toBeNull();
    expect(programOf(neverAPid)).toBeNull();
  });

  it('this process has CPU time that grows with work, memory, and a parent', () => {
    if (!linux) return expect(processUsage(process.pid)).toBeNull();
    const before = processUsage(process.pid)!;
    let turns = 0;
    while (processUsage(process.pid)!.cpuMs < before.cpuMs + 20) turns++;
    expect(turns).toBeGreaterThan(0);
    expect(before.memoryPeakMib).toBeGreaterThan(1);
    expect(parentOf(process.pid)).toBe(process.ppid);
  });
});
