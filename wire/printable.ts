/**
 * Characters that do something to a terminal, or to the order in which it shows a text, instead of being shown: the control
 * characters but tab and newline, and those that change the direction of writing.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that it looks for
const UNPRINTABLE = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** The character as JSON writes it, also those that JSON may leave as they are. */
const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`

/**
 * Text of others, such as an error's message or what a function printed, made harmless for a terminal: control characters
 * become visible, as `\u001b`. Lines and tabs stay.
 */
export const printable = (text: string): string => text.replace(UNPRINTABLE, escaped)

/** The same for text that has to stay on one line. */
export const printableLine = (text: string): string => printable(text).replace(/[\n\t]/g, escaped)

/** A value as JSON without unprintable characters; readers of JSON get the same value. undefined becomes null. */
export const printableJson = (value: unknown, indent?: number): string =>
  printable(JSON.stringify(value, null, indent) ?? 'null')
