import type { Family, Sample } from './family.ts';

/** The text format of Prometheus, version 0.0.4. */
export function textOf(families: readonly Family[]): string {
  return families.map(familyText).join('\n');
}

function familyText({ name, kind, help, samples }: Family): string {
  const lines = samples.map((sample) => `${name}${sampleText(sample)}\n`);
  return `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${kind}\n${lines.join('')}`;
}

function sampleText({ suffix, labels, value }: Sample): string {
  const pairs = Object.entries(labels ?? {}).map(([label, text]) => `${label}="${quoted(text)}"`);
  return `${suffix ?? ''}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${numberText(value)}`;
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

/** A lone surrogate would not survive the encoding to UTF-8. */
function quoted(text: string): string {
  return escaped(text.toWellFormed()).replaceAll('"', '\\"');
}
