# stage 4 from the cache to the trained U-Net; $1 = training budget in seconds
. "$(dirname "$0")/env.sh"
rm -f ../build/lat_*.pt ../build/latents.pt ../build/ddp_store ../build/STOP
python s4_unet.py cache 1 2 > ../log/cache1.log 2>&1 &
python s4_unet.py cache 0 2 > ../log/cache0.log 2>&1
wait
python s4_unet.py train $1 1 2 > ../log/unet1.log 2>&1 &
python s4_unet.py train $1 0 2 > ../log/unet.log 2>&1
wait
