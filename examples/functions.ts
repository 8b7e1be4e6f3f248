// The functions of the demo: CPU work on files. They are ordinary functions and do not import farpool.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { marked } from 'marked'
import sharp from 'sharp'

// One thread per process: the pool scales by processes.
sharp.concurrency(1)
sharp.cache(false)

/** Renders part of the Julia set of c = (re, im) as a JPEG and returns its size in bytes. */
export async function renderPicture(
  path: string,
  re: number,
  im: number,
  width: number,
  height: number,
): Promise<number> {
  const pixels = Buffer.alloc(width * height * 3)
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 3) {
      let zr = (3 * (x - width / 2)) / width
      let zi = (2 * (y - height / 2)) / height
      let steps = 0
      for (; steps < 120 && zr * zr + zi * zi < 4; steps++) {
        const next = zr * zr - zi * zi + re
        zi = 2 * zr * zi + im
        zr = next
      }
      pixels[at] = (steps * 7) & 255
      pixels[at + 1] = (steps * 3) & 255
      pixels[at + 2] = (steps * 11) & 255
    }
  }
  const { size } = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 90 })
    .toFile(path)
  return size
}

/** Scales a picture down. Returns a WebP file and its dimensions. */
export async function thumbnail(path: string, { width = 320 }: { width?: number } = {}) {
  const { data, info } = await sharp(path).resize({ width }).webp({ effort: 6 }).toBuffer({ resolveWithObject: true })
  return { bytes: data, width: info.width, height: info.height }
}

/** The SHA-256 digest of a file, in hexadecimal. */
export async function sha256(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex')
}

/** Counts the words of a text file. Returns the count and the most frequent words. */
export async function countWords(path: string, top = 3): Promise<{ words: number; top: [string, number][] }> {
  const counts = new Map<string, number>()
  let words = 0
  for (const [word] of (await readFile(path, 'utf8')).toLowerCase().matchAll(/\p{L}[\p{L}\p{N}_]*/gu)) {
    words++
    counts.set(word, (counts.get(word) ?? 0) + 1)
  }
  const ranked = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
  return { words, top: ranked.slice(0, top) }
}

/** Converts a Markdown file to HTML. */
export async function markdownToHtml(path: string): Promise<string> {
  return marked.parse(await readFile(path, 'utf8'), { async: false })
}
