import { limits } from '../../src/limits/limits.ts';

/**
 * Makes the segments of a broker small. A process imports this before its program
 * (`node --import`), so that a smoke run has segments to drop after seconds.
 */
export function nodeFlagsOfSegments(bytes: number): string[] {
  return ['--import', `${import.meta.url}?bytes=${bytes}`];
}

const bytes = new URL(import.meta.url).searchParams.get('bytes');
if (bytes !== null) (limits as { segmentBytesMax: number }).segmentBytesMax = Number(bytes);
