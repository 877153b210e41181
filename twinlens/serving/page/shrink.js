// Large pictures made smaller before they are sent, where the model hardly sees a difference.
// A model looks at a picture of `side` pixels; four times that, and never less than KEPT, is left.

const TIMES = 4;
const KEPT = 1024; // of the short side, so that the picture can still be looked at
const SMALL = 500e3; // bytes of a file that is sent as it is
const QUALITY = 0.92;
const EXIF = 0xffe1;
const ORIENTATION = 0x0112;

/* Return a smaller file of the same picture, or the file itself. */
export async function shrink(file, side) {
  if (file.size <= SMALL) return file;
  let picture;
  try {
    picture = await createImageBitmap(file); // upright, as its EXIF says
  } catch {
    return file; // a format that browsers do not read: the server may
  }
  try {
    const wanted = Math.max(KEPT, TIMES * side);
    const factor = wanted / Math.min(picture.width, picture.height);
    if (factor >= 0.9) return file;
    const small = await draw(picture, factor, file);
    return small.size < file.size ? small : file;
  } finally {
    picture.close();
  }
}

async function draw(picture, factor, file) {
  const canvas = new OffscreenCanvas(Math.round(picture.width * factor), Math.round(picture.height * factor));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const isJpeg = file.type === "image/jpeg" || /\.jpe?g$/i.test(file.name);
  const blob = await canvas.convertToBlob({ type: isJpeg ? "image/jpeg" : "image/webp", quality: QUALITY });
  return new File(isJpeg ? await withExif(blob, file) : [blob], file.name, { type: blob.type });
}

/* Return the parts of a JPEG with the original's EXIF: when, where and with what it was taken. */
async function withExif(blob, file) {
  const exif = findExif(new DataView(await file.slice(0, 256e3).arrayBuffer()));
  if (!exif) return [blob];
  return [blob.slice(0, 2), setUpright(exif), blob.slice(2)];
}

/* Return the segment that holds the EXIF, or null. */
function findExif(view) {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  for (let at = 2; at + 4 < view.byteLength; ) {
    const [marker, size] = [view.getUint16(at), view.getUint16(at + 2)];
    if (marker >> 8 !== 0xff || marker === 0xffda) return null;
    const isExif = marker === EXIF && at + 2 + size <= view.byteLength && view.getUint32(at + 4) === 0x45786966; // "Exif"
    if (isExif) return new Uint8Array(view.buffer.slice(at, at + 2 + size));
    at += 2 + size;
  }
  return null;
}

/* The drawn picture is upright: an orientation that turns it again would be wrong. */
function setUpright(exif) {
  const view = new DataView(exif.buffer);
  const base = 10; // marker, size, "Exif", two zeros
  try {
    const isLittle = view.getUint16(base) === 0x4949;
    const first = base + view.getUint32(base + 4, isLittle);
    for (let i = 0; i < view.getUint16(first, isLittle); i++) {
      const entry = first + 2 + 12 * i;
      if (view.getUint16(entry, isLittle) === ORIENTATION) view.setUint16(entry + 8, 1, isLittle);
    }
  } catch {
    return new Uint8Array(); // damaged: leave it out
  }
  return exif;
}
