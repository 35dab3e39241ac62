/** Names of U+00A0 to U+00FF in order. As the oldest ones, they also count without their semicolon. */
const LATIN =
  `nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn
sup2 sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave
Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml
ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN
szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave
iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc
uuml yacute thorn yuml`;

/** Names and hexadecimal code points of the other entities of HTML 4, and `apos`. */
const OTHERS =
  `apos:27 OElig:152 oelig:153 Scaron:160 scaron:161 Yuml:178 fnof:192 circ:2c6 tilde:2dc
Alpha:391 Beta:392 Gamma:393 Delta:394 Epsilon:395 Zeta:396 Eta:397 Theta:398 Iota:399
Kappa:39a Lambda:39b Mu:39c Nu:39d Xi:39e Omicron:39f Pi:3a0 Rho:3a1 Sigma:3a3 Tau:3a4
Upsilon:3a5 Phi:3a6 Chi:3a7 Psi:3a8 Omega:3a9 alpha:3b1 beta:3b2 gamma:3b3 delta:3b4
epsilon:3b5 zeta:3b6 eta:3b7 theta:3b8 iota:3b9 kappa:3ba lambda:3bb mu:3bc nu:3bd xi:3be
omicron:3bf pi:3c0 rho:3c1 sigmaf:3c2 sigma:3c3 tau:3c4 upsilon:3c5 phi:3c6 chi:3c7 psi:3c8
omega:3c9 thetasym:3d1 upsih:3d2 piv:3d6 ensp:2002 emsp:2003 thinsp:2009 zwnj:200c zwj:200d
lrm:200e rlm:200f ndash:2013 mdash:2014 lsquo:2018 rsquo:2019 sbquo:201a ldquo:201c rdquo:201d
bdquo:201e dagger:2020 Dagger:2021 bull:2022 hellip:2026 permil:2030 prime:2032 Prime:2033
lsaquo:2039 rsaquo:203a oline:203e frasl:2044 euro:20ac image:2111 weierp:2118 real:211c
trade:2122 alefsym:2135 larr:2190 uarr:2191 rarr:2192 darr:2193 harr:2194 crarr:21b5 lArr:21d0
uArr:21d1 rArr:21d2 dArr:21d3 hArr:21d4 forall:2200 part:2202 exist:2203 empty:2205 nabla:2207
isin:2208 notin:2209 ni:220b prod:220f sum:2211 minus:2212 lowast:2217 radic:221a prop:221d
infin:221e ang:2220 and:2227 or:2228 cap:2229 cup:222a int:222b there4:2234 sim:223c cong:2245
asymp:2248 ne:2260 equiv:2261 le:2264 ge:2265 sub:2282 sup:2283 nsub:2284 sube:2286 supe:2287
oplus:2295 otimes:2297 perp:22a5 sdot:22c5 lceil:2308 rceil:2309 lfloor:230a rfloor:230b
loz:25ca spades:2660 clubs:2663 hearts:2665 diams:2666 lang:27e8 rang:27e9`;

const ENTITIES: ReadonlyMap<string, string> = new Map([
  ...[...'amp& lt< gt> quot" AMP& LT< GT> QUOT" COPY\u00a9 REG\u00ae'.split(" ")].flatMap((pair) =>
    withAndWithoutSemicolon(pair.slice(0, -1), pair.slice(-1))
  ),
  ...LATIN.split(/\s/).flatMap((name, i) =>
    withAndWithoutSemicolon(name, String.fromCharCode(0xa0 + i))
  ),
  ...OTHERS.split(/\s/).map((pair): [string, string] => {
    const [name = "", hex = ""] = pair.split(":");
    return [`${name};`, String.fromCodePoint(parseInt(hex, 16))];
  }),
]);

function withAndWithoutSemicolon(name: string, character: string): [string, string][] {
  return [[`${name};`, character], [name, character]];
}

/**
 * Character references to characters as HTML 5 has it, semicolon or not: numeric ones, and the named ones of HTML 4
 * (HTML 5 has 1900 more, for mathematics; they are left as they are).
 */
export function unescapeHtml(text: string): string {
  return text.replace(
    /&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu,
    (whole, reference: string) => {
      if (reference.startsWith("#")) return fromNumber(reference.slice(1));
      for (let length = reference.length; length > 1; length--) {
        const character = ENTITIES.get(reference.slice(0, length));
        if (character !== undefined) return character + reference.slice(length);
      }
      return whole;
    },
  );
}

/** As `unescapeHtml`, but only what has its semicolon; also names written in capitals, such as `&EACUTE;`. */
export function unescapeStrict(text: string): string {
  return text.replace(/&(#?)([0-9A-Za-z]{1,24};)/g, (whole, hash: string, name: string) => {
    if (hash) {
      const unescaped = unescapeHtml(whole);
      return unescaped.includes(";") ? whole : unescaped;
    }
    const exact = ENTITIES.get(name);
    if (exact !== undefined) return exact;
    const lower = ENTITIES.get(name.toLowerCase());
    const isCapitals = name === name.toUpperCase() && unescapeHtml(whole) === whole;
    return lower !== undefined && isCapitals ? lower.toUpperCase() : whole;
  });
}

const WINDOWS_1252 = new TextDecoder("windows-1252");

/** The control characters U+0080 to U+009F as what they are in Windows-1252, which is what was meant. */
export function fixC1(text: string): string {
  return text.replace(
    /[\x80-\x9f]/g,
    (character) => WINDOWS_1252.decode(Uint8Array.of(character.charCodeAt(0))),
  );
}

function fromNumber(digits: string): string {
  const code = /^x/i.test(digits) ? parseInt(digits.slice(1), 16) : parseInt(digits, 10);
  if (code === 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return "\ufffd";
  if (code >= 0x80 && code <= 0x9f) return fixC1(String.fromCharCode(code));
  const isControl = code < 0x20 && ![0x09, 0x0a, 0x0c, 0x0d].includes(code);
  const isNoncharacter = (code & 0xfffe) === 0xfffe || (code >= 0xfdd0 && code <= 0xfdef);
  return isControl || isNoncharacter || code === 0x7f ? "" : String.fromCodePoint(code);
}
